import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_files import encode, pixels_of, write_parquet

from fedmpq.data.parquet import parquet_source
from fedmpq.errors import UserError

TRAIN = "train-00000-of-00002.parquet"
TEST = "test-00000-of-00001.parquet"


def read(folder):
    """Everything, as the preparation does it."""
    source = parquet_source(folder, "data/raw/mine")
    pixels_of(source.train)
    pixels_of(source.test)
    return source


def refused(folder):
    with pytest.raises(UserError) as caught:
        read(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_images_and_labels_in_the_order_of_files_and_rows(parquet_set):
    source = read(parquet_set)
    assert source.classes == ["cat", "dog"]
    assert source.description == "parquet files in data/raw/mine"
    assert source.train.labels.tolist() == [0, 1] * 4
    assert source.test.labels.tolist() == [1, 0] * 2
    assert pixels_of(source.train)[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 100, 110, 120, 130]
    assert len(pixels_of(source.train)) == 8  # a second pass gives them again
    assert [place for place, _ in source.train.images()][5].endswith("train-00001-of-00002.parquet, row 1 (from 0)")


@pytest.mark.parametrize("name", ["validation-00000-of-00001", "valid-00000-of-00001-70d52db3", "val-0", "test"])
@pytest.mark.parametrize("columns", [("image", "label"), ("img", "fine_label")])
def test_other_names_of_columns_and_test_files(tmp_path, name, columns):
    image, label = columns
    write_parquet(tmp_path / "train.parquet", [encode()] * 4, [0, 1, 2, 0], image=image, label=label)
    write_parquet(tmp_path / f"{name}.parquet", [encode()] * 2, [0, 2], image=image, label=label)
    source = read(tmp_path)
    assert source.classes == ["0", "1", "2"]
    assert len(source.test.labels) == 2


def test_test_files_win_over_validation_files(parquet_set):
    write_parquet(parquet_set / "validation-00000-of-00001.parquet", [encode()], [0])
    assert len(read(parquet_set).test.labels) == 4


def test_integer_labels_of_any_width(parquet_set):
    write_parquet(parquet_set / TEST, [encode()] * 2, [0, 1], label_type=pa.uint8())
    assert read(parquet_set).test.labels.dtype == "int64"


def test_missing_files_are_named(parquet_set):
    (parquet_set / TRAIN).unlink()
    assert "lacks train-00000-of-00002.parquet; add it" in refused(parquet_set)
    (parquet_set / "train-00001-of-00002.parquet").unlink()
    assert f"holds no train-*.parquet, only {TEST}; add it" in refused(parquet_set)


def test_training_files_alone_are_refused(parquet_set):
    (parquet_set / TEST).unlink()
    assert "holds no test-*.parquet (or validation-*.parquet), only train-" in refused(parquet_set)


def test_the_same_file_under_both_names_is_refused(parquet_set):
    (parquet_set / TEST).unlink()
    (parquet_set / TEST).symlink_to(parquet_set / TRAIN)
    assert f"{TEST} is one of the training files" in refused(parquet_set)


@pytest.mark.parametrize("keep", [0, 3, 0.5, 0.99])
def test_truncated_files_are_named(parquet_set, keep):
    whole = (parquet_set / TEST).read_bytes()
    (parquet_set / TEST).write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    assert f"{TEST} is no whole parquet file (" in refused(parquet_set)


def test_damage_between_beginning_and_end_is_noticed(parquet_set):
    whole = bytearray((parquet_set / TEST).read_bytes())
    whole[4:40] = b"\xff" * 36
    (parquet_set / TEST).write_bytes(whole)
    assert TEST in refused(parquet_set)


def test_missing_columns_are_named(parquet_set):
    write_parquet(parquet_set / TEST, [encode()], [0], image="picture")
    assert f"{TEST} has no column img or image, only picture, label" in refused(parquet_set)
    write_parquet(parquet_set / TEST, [encode()], [0], label="class")
    assert f"{TEST} has no column label or fine_label, only img, class" in refused(parquet_set)


def test_an_image_column_of_another_type_is_refused(parquet_set):
    pq.write_table(pa.table({"img": [b"x"], "label": [0]}), parquet_set / TEST)
    assert f"{TEST}: column img is binary; it must be a struct of bytes and path" in refused(parquet_set)


@pytest.mark.parametrize("missing", [None, b""])
def test_a_label_without_image_is_named(parquet_set, missing):
    write_parquet(parquet_set / TRAIN, [encode()] * 4 + [missing], [0, 1, 0, 1, 0])
    assert f"{TRAIN}, row 4 (from 0): there is a label but no image" in refused(parquet_set)


def test_an_image_that_holds_only_a_path_is_no_image(parquet_set):
    image = pa.array([{"bytes": None, "path": "a.png"}], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    pq.write_table(pa.table({"img": image, "label": [0]}), parquet_set / TEST)
    assert f"{TEST}, row 0 (from 0): there is a label but no image" in refused(parquet_set)


def test_an_image_that_cannot_be_decoded_is_named(parquet_set):
    write_parquet(parquet_set / TRAIN, [encode(), encode(), b"no image", encode()], [0, 1, 0, 1])
    message = refused(parquet_set)
    assert f"{TRAIN}, row 2 (from 0): the image cannot be decoded (no image in a known format)" in message


@pytest.mark.parametrize(
    ("labels", "kind", "message"),
    [
        ([0, None, 1], None, "row 1 (from 0): the image has no label"),
        ([0, 1, -1], None, "row 2 (from 0): label -1 is not allowed; allowed: 0 to 1, as in the training set"),
        ([0, 2, 1], None, "row 1 (from 0): label 2 is not allowed; allowed: 0 to 1, as in the training set"),
        ([0.0, 1.0, 1.0], pa.float64(), "the labels in label are double; they must be integers from 0"),
        (["a", "b", "c"], pa.string(), "the labels in label are string; they must be integers from 0"),
    ],
)
def test_labels_that_are_no_labels_are_named(parquet_set, labels, kind, message):
    write_parquet(parquet_set / TEST, [encode()] * 3, labels, label_type=kind)
    assert f"{TEST}" in (found := refused(parquet_set))
    assert message in found


def test_a_negative_label_without_class_names(tmp_path):
    write_parquet(tmp_path / "train-0.parquet", [encode()] * 2, [0, -5])
    write_parquet(tmp_path / "test-0.parquet", [encode()], [0])
    assert "train-0.parquet, row 1 (from 0): label -5 is not allowed; allowed: integers from 0" in refused(tmp_path)


def test_no_rows_are_refused(parquet_set):
    write_parquet(parquet_set / TEST, [], [])
    assert f"{TEST}: there are no rows" in refused(parquet_set)


def test_a_single_class_is_refused(tmp_path):
    write_parquet(tmp_path / "train-0.parquet", [encode()], [0])
    shutil.copy(tmp_path / "train-0.parquet", tmp_path / "test-0.parquet")
    assert "only the class ['0'] is there; at least 2 are needed" in refused(tmp_path)
