import pytest
from image_files import encode, write_image, write_parquet


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
