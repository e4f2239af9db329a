"""A project after its stages."""

import shutil
from pathlib import Path

import pytest
from PIL import Image
from projects import parameters

from fedmpq.engine import inputs


@pytest.fixture(scope="module")
def after_stages(tmp_path_factory):
    """A project after the stages: arrays of digits at 8 x 8, partitions at alpha 0.5; and an image folder `mine`."""
    root = tmp_path_factory.mktemp("project")
    experiment = parameters({}).experiment("digits")
    data = root / "data/prepared/digits"
    inputs.make_arrays(root, experiment.data, data)
    inputs.make_partitions(experiment, 0.5, data, root / "data/partitions/digits/alpha-0.5")
    for part, classes, count in (("train", "ab", 60), ("test", "ab", 5)):
        for index in range(count):
            path = root / "data/raw/mine" / part / classes[index % 2] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (4 * index, 0, 0)).save(path)
    return root


@pytest.fixture
def root(after_stages, tmp_path):
    """The same, to change at will."""
    return Path(shutil.copytree(after_stages, tmp_path / "project", ignore=shutil.ignore_patterns("checkpoints")))
