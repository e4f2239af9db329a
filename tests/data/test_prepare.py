import json
import resource

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from image_files import encode, pixels_of, write_image, write_parquet

from fedmpq.data.arrays import Dataset
from fedmpq.data.prepare import CHUNK, prepare, statistics
from fedmpq.errors import UserError


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_prepared_parquet_files(tmp_path, parquet_set, opened):
    source = opened()
    prepare("mine", source, None, tmp_path / "prepared")
    dataset = Dataset.load(tmp_path / "prepared")
    assert (dataset.name, dataset.classes, dataset.image_size) == ("mine", ["cat", "dog"], 8)
    assert isinstance(dataset.train_images, np.memmap)
    assert not dataset.train_images.flags.writeable
    assert (dataset.train_images == pixels_of(source.train)).all()
    assert (dataset.test_images == pixels_of(source.test)).all()
    assert dataset.train_labels.tolist() == [0, 1] * 4
    assert dataset.test_labels.tolist() == [1, 0] * 2
    meta = json.loads((tmp_path / "prepared/meta.json").read_text())
    assert list(meta) == ["data", "classes", "image_size", "mean", "std", "train", "test", "source"]
    assert (meta["train"], meta["test"], meta["source"]) == (8, 4, "parquet files in data/raw/mine")


def test_grey_and_transparent_images_of_a_folder(tmp_path, image_folder, opened):
    write_image(image_folder / "train/cat/grey.png", 90, mode="L")
    write_image(image_folder / "train/cat/rgba.png", (9, 8, 7, 255), mode="RGBA")
    prepare("mine", opened(), None, tmp_path / "prepared")
    images = Dataset.load(tmp_path / "prepared").train_images
    assert images.shape == (5, 8, 8, 3)
    assert images[1:3, 0, 0].tolist() == [[90, 90, 90], [9, 8, 7]]


def test_the_same_source_gives_the_same_bytes(tmp_path, opened):
    for name in ("first", "second"):
        prepare("digits", opened("digits"), 16, tmp_path / name)
    first = contents(tmp_path / "first")
    assert first == contents(tmp_path / "second")
    assert set(first) == {"meta.json", *(f"{a}_{b}.npy" for a in ("train", "test") for b in ("images", "labels"))}


def test_more_images_than_are_decoded_at_a_time_keep_their_order(tmp_path, opened):
    source = opened("digits")
    prepare("digits", source, None, tmp_path / "prepared")
    dataset = Dataset.load(tmp_path / "prepared")
    assert len(dataset.train_labels) > 2 * CHUNK
    assert (dataset.train_images == pixels_of(source.train)).all()
    images = dataset.train_images / 255
    assert dataset.mean == pytest.approx(images.mean(axis=(0, 1, 2)), abs=1e-12)
    assert dataset.std == pytest.approx(images.std(axis=(0, 1, 2)), abs=1e-12)


@given(arrays(np.uint8, st.tuples(st.integers(1, 50), st.just(3))))
def test_statistics_are_those_of_the_values(values):
    histogram = np.stack([np.bincount(channel, minlength=256) for channel in values.T])
    mean, std = statistics(histogram)
    assert mean == pytest.approx(values.mean(axis=0) / 255, abs=1e-12)
    expected = values.std(axis=0) / 255
    assert std == pytest.approx(np.where(expected == 0, 1, expected), abs=1e-12)


def test_images_are_scaled_to_the_size_asked_for(tmp_path, image_folder, opened):
    write_image(image_folder / "train/cat/wide.png", (200, 0, 0), (30, 9))
    prepare("mine", opened(), 12, tmp_path / "prepared")
    dataset = Dataset.load(tmp_path / "prepared")
    assert dataset.image_size == 12
    assert (dataset.train_images[1] == [200, 0, 0]).all()


def test_sizes_that_differ_are_an_error_that_says_what_to_set(tmp_path, image_folder, opened):
    write_image(image_folder / "test/dog/z.png", size=(9, 7))
    with pytest.raises(UserError) as caught:
        prepare("mine", opened(), None, tmp_path / "prepared")
    problem = "the image is 9 x 7 pixels, not 8 x 8; set image_size (e.g. 8) to scale all"
    assert str(caught.value) == f"{image_folder}/test/dog/z.png: {problem}"
    assert not (tmp_path / "prepared").exists()


def test_images_that_are_not_square_are_an_error_that_says_what_to_set(tmp_path, image_folder, opened):
    write_image(image_folder / "train/cat/a.png", size=(9, 7))
    with pytest.raises(UserError, match=r"a\.png: the image is 9 x 7 pixels, not 7 x 7; set image_size"):
        prepare("mine", opened(), None, tmp_path / "prepared")


def test_a_failure_half_way_leaves_earlier_results_as_they_were(tmp_path, parquet_set, opened):
    prepare("mine", opened(), None, tmp_path / "prepared/mine")
    before = contents(tmp_path / "prepared/mine")
    write_parquet(parquet_set / "test-00000-of-00001.parquet", [encode((9, 9, 9)), b"damaged"], [0, 1])
    with pytest.raises(UserError, match=r"data/raw/mine, test, row 1 \(from 0\): the image cannot be decoded"):
        prepare("mine", opened(), None, tmp_path / "prepared/mine")
    assert contents(tmp_path / "prepared/mine") == before
    assert [path.name for path in (tmp_path / "prepared").iterdir()] == ["mine"]


def test_a_file_that_cannot_grow_is_an_error_and_leaves_nothing(tmp_path, opened):
    source = opened("digits")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"^cannot write .*prepared/digits: File too large"):
            prepare("digits", source, 16, tmp_path / "prepared/digits")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((tmp_path / "prepared").iterdir())
