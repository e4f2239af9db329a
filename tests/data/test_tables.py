import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_files import IMAGE, encode, pixels_of, write_parquet


@pytest.fixture
def write(tmp_path):
    """Writes a data set of so many images as there are labels."""

    def files(train, test, **options):
        for part, labels in (("train", train), ("test", test)):
            write_parquet(tmp_path / f"raw/mine/{part}-0.parquet", [encode()] * len(labels), labels, **options)

    return files


@pytest.mark.parametrize(("image", "label"), [("image", "label"), ("img", "fine_label")])
def test_columns_are_found_by_name(write, opened, image, label):
    write([0, 1, 2, 0], [0, 2], image=image, label=label)
    source = opened()
    assert source.classes == ["0", "1", "2"]
    assert len(pixels_of(source.test)) == 2


def test_columns_are_found_by_type(write, opened):
    write([0, 1], [1], image="picture", label="animal", names=["cat", "dog"])
    assert opened().classes == ["cat", "dog"]


def test_fine_labels_go_before_coarse_ones(tmp_path, opened):
    names = {"coarse_label": ["animal", "plant"], "fine_label": ["cat", "dog", "oak"]}
    features = {name: {"names": known, "_type": "ClassLabel"} for name, known in names.items()}
    table = pa.table({"img": pa.array([{"bytes": encode(), "path": None}] * 3, IMAGE), "coarse_label": [0, 0, 1]})
    table = table.append_column("fine_label", pa.array([0, 1, 2]))
    metadata = {"huggingface": json.dumps({"info": {"features": {"img": {"_type": "Image"}, **features}}})}
    for part in ("train", "test"):
        (tmp_path / "raw/mine").mkdir(parents=True, exist_ok=True)
        pq.write_table(table.replace_schema_metadata(metadata), tmp_path / f"raw/mine/{part}.parquet")
    assert opened().classes == names["fine_label"]
    assert opened(label_column="coarse_label").classes == names["coarse_label"]


def test_columns_that_cannot_be_found_are_asked_for(write, opened, refused):
    write([0, 1], [1], image="picture", label="animal")
    assert "no column img or image, only picture, animal; set image_column" in refused()
    assert "no column label or fine_label, only picture, animal; set label_column" in refused(image_column="picture")
    assert "no column kind, only picture, animal" in refused(image_column="picture", label_column="kind")
    assert "column animal holds no images" in refused(image_column="animal", label_column="animal")
    assert "the labels in picture are" in refused(image_column="picture", label_column="picture")
    assert opened(image_column="picture", label_column="animal").classes == ["0", "1"]


@pytest.mark.parametrize("kind", [pa.uint8(), pa.int64(), pa.bool_()])
def test_integer_labels_of_any_width(write, opened, kind):
    labels = [False, True] if kind == pa.bool_() else [0, 1]
    write(labels, labels, label_type=kind)
    assert opened().train.labels.tolist() == [0, 1]
    assert opened().train.labels.dtype == "int64"


def test_text_as_labels_names_the_classes(write, opened, refused):
    write(["b", "a", "c"], ["c"], label_type=pa.string())
    source = opened()
    assert source.classes == ["a", "b", "c"]
    assert source.train.labels.tolist() == [1, 0, 2]
    write(["b", "a"], ["c"], label_type=pa.string())
    assert "mine, test, row 0 (from 0): label 'c' is not allowed; allowed: a to b, as for training" in refused()


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ([0, 100_000], "go from 0 to 100000, but no training image has label 1"),
        ([1, 2, 3], "go from 1 to 3, but no training image has label 0"),
        ([0, 1, 3], "go from 0 to 3, but no training image has label 2"),
        ([0, 2**40], "go from 0 to 1099511627776, but no training image has label 1"),
        ([0, -5], "go from -5 to 0, but no training image has label 1"),
    ],
)
def test_labels_with_gaps_are_refused(write, refused, labels, found):
    write(labels, labels, label="animal")
    advice = f"number them 0 to {len(labels) - 1}, or name the classes: labels as text, or datasets.ClassLabel"
    expected = f"parquet files in data/raw/mine, column animal: labels {found}; {advice}"
    assert refused(label_column="animal") == expected


def test_a_class_that_is_named_but_has_no_training_image_gives_a_warning(write, opened, capsys):
    write([0, 2], [2], names=["cat", "dog", "fox", "owl"])
    assert opened().classes == ["cat", "dog", "fox", "owl"]
    assert capsys.readouterr().err.endswith("data/raw/mine: no training image is of class dog, owl\n")


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([0, None, 1], {}, "row 1 (from 0): label None is not allowed"),
        ([0, 1, -1], {}, "row 2 (from 0): label -1 is not allowed; allowed: 0 to 1, as for training"),
        ([0, 2, 1], {}, "row 1 (from 0): label 2 is not allowed; allowed: 0 to 1, as for training"),
        ([0, 2, 1], {"names": ["a", "b"]}, "row 1 (from 0): label 2 is not allowed; allowed: 0 to 1"),
    ],
)
def test_labels_that_the_training_set_does_not_have_are_named(write, refused, labels, options, message):
    write([0, 1], labels, **options)
    assert f"parquet files in data/raw/mine, test, {message}" in refused()


@pytest.mark.parametrize("kind", [pa.float64(), pa.list_(pa.int64())])
def test_labels_of_another_type_are_refused(write, refused, kind):
    labels = [[0], [1]] if pa.types.is_list(kind) else [0.0, 1.0]
    write(labels, labels, label_type=kind)
    assert "the labels in label are " in refused()


@pytest.mark.parametrize("missing", [None, b""])
def test_a_label_without_image_is_named(parquet_set, refused, missing):
    write_parquet(parquet_set / "train-00001-of-00002.parquet", [encode()] * 4 + [missing], [0, 1, 0, 1, 0])
    assert "parquet files in data/raw/mine, train, row 8 (from 0): there is a label but no image" in refused()


@pytest.mark.parametrize("path", ["a.png", "/etc/hostname", "{folder}/../other/a.png"])
def test_an_image_that_holds_only_a_path_is_no_image(parquet_set, refused, path):
    image = pa.array([{"bytes": None, "path": path.format(folder=parquet_set)}], IMAGE)
    pq.write_table(pa.table({"img": image, "label": [0]}), parquet_set / "test-00000-of-00001.parquet")
    assert "row 0 (from 0): there is a label but no image" in refused()


def test_a_single_class_is_refused(write, refused):
    write([0, 0], [0])
    assert "only the class ['0'] is there; at least 2 are needed" in refused()
