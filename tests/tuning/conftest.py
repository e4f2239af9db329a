"""A project whose trials take a second."""

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
from fedmpq.data.arrays import prepare
from fedmpq.data.splits import Source, Split
from fedmpq.tuning.space import Space

REPO = Path(__file__).parents[2]
CLASSES, TRAIN, TEST = 3, 90, 30
EXPERIMENT = {
    "data": "tiny",
    "image_size": None,
    "model": "user_models:perceptron",
    "activation_bits": None,
    "clients": 3,
    "budgets": [2.0, 4.0, 8.0],
    "min_samples": 2,
    "validation": 0.2,
    "rounds": 3,
    "batch_size": 8,
    "precision": "float32",
}
TUNE = {"trials": 3, "final_rounds": 2, "seeds": [0, 1], "overrides": {}}


def prepare_tiny(folder):
    """Three classes that differ by colour, in images of 8 x 8 pixels."""
    generator = np.random.default_rng(0)

    def split(count):
        labels = np.arange(count) % CLASSES
        images = generator.integers(0, 120, (count, 8, 8, 3))
        images[np.arange(count), :, :, labels] += 60
        pixels = images.astype(np.uint8)
        return Split(labels, lambda: ((f"image {number}", image) for number, image in enumerate(pixels)))

    prepare("tiny", Source("drawn by the tests", ["red", "green", "blue"], split(TRAIN), split(TEST)), None, folder)


class Project:
    """A folder with params.yaml, prepared data and the pipeline."""

    def __init__(self, root):
        self.root = root
        self.file = root / "params.yaml"
        self.tables = root / "reports" / "digits" / "tuning"
        shutil.copytree(REPO / "pipeline", root / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(REPO / "params.yaml", self.file)
        prepare_tiny(root / "data" / "prepared" / "digits")
        self.configure(digits=EXPERIMENT, tune=TUNE, execution={"executor": "sequential"})

    def configure(self, **sections):
        """Change keys of sections in params.yaml."""
        yaml = YAML()
        tree = yaml.load(self.file)
        for name, changes in sections.items():
            tree[name].update(changes)
        yaml.dump(tree, self.file)

    def space(self, **changes):
        """The search of digits, with changes to section tune."""
        return Space(load_parameters(self.file, {f"tune.{key}": value for key, value in changes.items()}), "digits")

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
