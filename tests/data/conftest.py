import pytest
from image_files import encode, write_image, write_parquet

from fedmpq.data.prepare import prepare
from fedmpq.data.sources import open_source
from fedmpq.errors import UserError


@pytest.fixture
def opened(tmp_path):
    """Opens a data set below `tmp_path`/raw."""

    def open_(name="mine", **columns):
        source = open_source(name, tmp_path / "raw", tmp_path / "downloads", **columns)
        left = tmp_path / "downloads"
        assert name != "mine" or not left.exists() or not list(left.iterdir())
        return source

    return open_


@pytest.fixture
def refused(tmp_path, opened):
    """The one line of error with which a data set is refused when it is prepared."""

    def message(name="mine", **columns):
        with pytest.raises(UserError) as caught:
            prepare(name, opened(name, **columns), 8, tmp_path / "prepared")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return message


@pytest.fixture
def parquet_set(tmp_path):
    """A folder with 8 training images in two files and 4 test images, of the classes cat and dog."""
    folder = tmp_path / "raw" / "mine"
    names = ["cat", "dog"]
    for part in range(2):
        images = [encode((100 * part + 10 * row, 0, 0)) for row in range(4)]
        write_parquet(folder / f"train-{part:05}-of-00002.parquet", images, [0, 1, 0, 1], names=names)
    write_parquet(folder / "test-00000-of-00001.parquet", [encode()] * 4, [1, 0, 1, 0], names=names)
    return folder


@pytest.fixture
def image_folder(tmp_path):
    """A folder with 3 training images and 2 test images, of the classes cat and dog."""
    folder = tmp_path / "raw" / "mine"
    for path, color in {
        "train/dog/b.png": (1, 1, 1),
        "train/dog/a.png": (2, 2, 2),
        "train/cat/c.png": (3, 3, 3),
        "test/dog/d.png": (4, 4, 4),
        "test/cat/e.png": (5, 5, 5),
    }.items():
        write_image(folder / path, color)
    return folder
