import numpy as np
import pytest

from fedmpq.data.arrays import Dataset
from fedmpq.data.prepare import prepare
from fedmpq.errors import UserError


@pytest.fixture
def prepared(tmp_path, image_folder, opened):
    prepare("mine", opened(), None, tmp_path / "prepared/mine")
    return tmp_path / "prepared/mine"


def test_a_missing_data_set_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere is missing; make it with: dvc repro"):
        Dataset.load(tmp_path / "nowhere")


def truncate(path):
    path.write_bytes(path.read_bytes()[:-9])


def drop_classes(path):
    path.write_text(path.read_text().replace('"mean"', '"other"'))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("meta.json", truncate),
        ("meta.json", drop_classes),
        ("meta.json", lambda path: path.write_text(path.read_text().replace('"train": 3', '"train": 4'))),
        ("train_images.npy", lambda path: path.unlink()),
        ("train_images.npy", truncate),
        ("test_images.npy", lambda path: np.save(path, np.zeros((2, 8, 8, 3)))),
        ("test_labels.npy", lambda path: np.save(path, np.array([0.0, 1.0]))),
        ("test_labels.npy", lambda path: np.save(path, np.array([0]))),
        ("train_labels.npy", lambda path: path.write_bytes(b"")),
    ],
)
def test_a_damaged_data_set_is_refused(prepared, name, damage):
    damage(prepared / name)
    with pytest.raises(UserError, match=r"prepared/mine is incomplete or damaged \(.*\); delete it and run: dvc repro"):
        Dataset.load(prepared)
