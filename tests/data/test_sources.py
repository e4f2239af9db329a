import gzip
import struct

import numpy as np
import pytest
from image_files import pixels_of, write_image

from fedmpq.data.sources import open_source
from fedmpq.errors import UserError


def open_(tmp_path, name):
    return open_source(name, tmp_path / "raw", tmp_path / "downloads")


def test_digits_are_built_in_and_divided_by_class(tmp_path):
    source = open_(tmp_path, "digits")
    assert source.classes == [str(digit) for digit in range(10)]
    assert len(source.train.labels) + len(source.test.labels) == 1797
    counts = np.bincount(source.train.labels), np.bincount(source.test.labels)
    assert np.abs(counts[1] - 0.2 * (counts[0] + counts[1])).max() < 1
    pixels = pixels_of(source.train)
    assert pixels.shape[1:] == (8, 8, 3)
    assert pixels.max() == 255
    assert len(np.unique(pixels)) == 17


def test_the_users_own_parquet_files(tmp_path, parquet_set):
    assert open_(tmp_path, "mine").description == "parquet files in data/raw/mine"


def test_the_users_own_image_folder(tmp_path, image_folder):
    assert open_(tmp_path, "mine").description == "image folder data/raw/mine"


@pytest.mark.parametrize("kind", ["parquet_set", "image_folder"])
def test_data_one_folder_deeper_are_found(tmp_path, request, kind):
    folder = request.getfixturevalue(kind)
    folder.rename(tmp_path / "data")
    folder.mkdir()
    (tmp_path / "data").rename(folder / "data")
    (folder / "README.md").write_text("x")
    assert open_(tmp_path, "mine").classes == ["cat", "dog"]


def test_the_users_own_files_win_over_what_is_built_in(tmp_path, image_folder):
    image_folder.rename(tmp_path / "raw/digits")
    assert open_(tmp_path, "digits").classes == ["cat", "dog"]


def test_several_data_sets_in_one_folder_are_refused(tmp_path):
    for path in ("a/train/x/1.png", "b/train/x/1.png"):
        write_image(tmp_path / "raw/mine" / path)
    with pytest.raises(UserError, match=r"raw/mine holds several data sets \(a, b\); leave one"):
        open_(tmp_path, "mine")


def test_files_in_no_layout_are_refused_rather_than_passed_over(tmp_path):
    write_image(tmp_path / "raw/cifar10/1.png")
    with pytest.raises(
        UserError, match=r"raw/cifar10 holds neither parquet files nor a folder train; put there train-"
    ):
        open_(tmp_path, "cifar10")


@pytest.mark.parametrize("name", ["tiny-imagenet", "mine"])
def test_an_unknown_data_set_is_told_what_to_put_where(tmp_path, name):
    with pytest.raises(UserError) as caught:
        open_(tmp_path, name)
    assert str(caught.value) == (
        f"no data set '{name}': put train-*.parquet and test-*.parquet, or train/<class>/ and test/<class>/ with images"
        f" in {tmp_path}/raw/{name}/, or use a built-in one (digits, fashion-mnist, cifar10, cifar100)"
    )


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10", "cifar100"])
def test_a_download_that_fails_says_what_to_put_where(tmp_path, monkeypatch, name):
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # nothing listens there
    (tmp_path / "raw" / name).mkdir(parents=True)
    (tmp_path / "raw" / name / ".DS_Store").touch()
    with pytest.raises(UserError) as caught:
        open_(tmp_path, name)
    message = str(caught.value)
    assert message.startswith(f"cannot download {name} (")
    assert f"in {tmp_path}/raw/{name}/ instead" in message
    assert "\n" not in message
    assert not list((tmp_path / "downloads").iterdir())


@pytest.fixture
def downloaded(tmp_path):
    """What torchvision's download of FashionMNIST leaves, with 20 and 10 images."""
    folder = tmp_path / "downloads/fashion-mnist/FashionMNIST/raw"
    folder.mkdir(parents=True)
    for part, count in (("train", 20), ("t10k", 10)):
        pixels = bytes(value % 256 for value in range(count * 28 * 28))
        images = struct.pack(">IIII", 0x803, count, 28, 28) + pixels
        labels = struct.pack(">II", 0x801, count) + bytes(number % 10 for number in range(count))
        (folder / f"{part}-images-idx3-ubyte").write_bytes(images)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(labels)
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    return folder


def test_a_download_is_used_again(tmp_path, downloaded):
    source = open_(tmp_path, "fashion-mnist")
    assert source.classes[0] == "T-shirt/top"
    assert source.description == "torchvision's download of fashion-mnist"
    assert source.train.labels.tolist() == [*range(10)] * 2
    pixels = pixels_of(source.test)
    assert pixels.shape == (10, 28, 28, 3)
    assert pixels[0, 0, :3].tolist() == [[0] * 3, [1] * 3, [2] * 3]


def test_a_damaged_download_is_named(tmp_path, downloaded):
    (downloaded / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03\0\0")
    with pytest.raises(UserError, match="downloads/fashion-mnist is damaged; delete it"):
        open_(tmp_path, "fashion-mnist")
    (downloaded / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(UserError, match="downloads/fashion-mnist is damaged; delete it"):
        open_(tmp_path, "fashion-mnist")
