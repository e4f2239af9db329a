"""A project whose trials take a second."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from fedmpq.config import load_parameters
from fedmpq.tuning.space import Space

REPO = Path(__file__).parents[2]
CLASSES = 3
EXPERIMENT = {
    "data": {"source": "tiny", "image_size": None, "validation": 0.2},
    "partition": {"clients": 3, "min_samples": 2, "seeds": [0, 1]},
    "model": {"network": "user_models:perceptron", "activation_bits": None, "budgets": [2.0, 4.0, 8.0]},
    "training": {"rounds": 3, "batch_size": 8, "precision": "float32"},
}
SEARCH = {
    "fedmpq.lambda": {"kind": "float", "low": 1e-5, "high": 10.0, "log": True},
    "fedmpq.epsilon": {"kind": "float", "low": 0.005, "high": 0.1, "log": True},
}
TUNE = {"algorithm": "fedmpq", "trials": 3, "final_rounds": 2, "search": SEARCH, "overrides": {}}


def write_arrays(folder):
    """Three classes that differ by colour, in images of 8 x 8 pixels, as stage `prepare` leaves them."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for part, count in (("train", 90), ("test", 30)):
        labels = np.arange(count) % CLASSES
        images = generator.integers(0, 120, (count, 8, 8, 3))
        images[np.arange(count), :, :, labels] += 60
        np.save(folder / f"{part}_images.npy", images.astype(np.uint8))
        np.save(folder / f"{part}_labels.npy", labels)
    meta = {"data": "tiny", "classes": ["red", "green", "blue"], "image_size": 8, "train": 90, "test": 30}
    (folder / "meta.json").write_text(json.dumps(meta | {"mean": [0.3] * 3, "std": [0.1] * 3}))
    made_with = {"source": "tiny", "image_column": None, "label_column": None, "image_size": None}
    (folder / "made-with.json").write_text(json.dumps(made_with))


class Project:
    """A folder with params.yaml, prepared data and the pipeline."""

    def __init__(self, root):
        self.root = root
        self.file = root / "params.yaml"
        self.tables = root / "reports" / "digits" / "tuning"
        shutil.copytree(REPO / "pipeline", root / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
        (root / "src").symlink_to(REPO / "src")
        shutil.copy(REPO / "params.yaml", self.file)
        write_arrays(root / "data" / "prepared" / "digits")
        self.configure(digits=EXPERIMENT, execution={"executor": "sequential"}, tune=TUNE)

    def configure(self, **sections):
        """Change keys of sections, or of their groups, in params.yaml."""
        yaml = YAML()
        tree = yaml.load(self.file)
        for name, changes in sections.items():
            for key, value in changes.items():
                if name == "digits":
                    tree[name][key].update(value)
                else:
                    tree[name][key] = value
        yaml.dump(tree, self.file)

    def space(self, **changes):
        """The search of digits, with changes to section tune."""
        return Space(load_parameters(self.file, {f"tune.{key}": value for key, value in changes.items()}))

    def start(self, *arguments, **environment):
        """Start `python -m pipeline.tune` there."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "MLFLOW_"))}
        path = os.pathsep.join(str(folder) for folder in (REPO / "src", REPO / "tests"))
        return subprocess.Popen(
            [sys.executable, "-W", "error::FutureWarning", "-m", "pipeline.tune", *arguments],
            cwd=self.root,
            env=kept | {"PYTHONPATH": path} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Where the tests run in the background, Ctrl-C is ignored by what they start.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


@pytest.fixture(scope="session")
def project_at():
    return Project


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """One that tests only read."""
    return Project(tmp_path_factory.mktemp("project"))


@pytest.fixture
def own_project(tmp_path):
    """One that a test may change."""
    return Project(tmp_path)
