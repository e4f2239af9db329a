import numpy as np
import pytest
from image_files import pixels_of, write_image, write_parquet


def test_digits_are_built_in_and_divided_by_class(opened):
    source = opened("digits")
    assert source.description == "scikit-learn's digits"
    assert source.classes == [str(digit) for digit in range(10)]
    assert len(source.train.labels) + len(source.test.labels) == 1797
    counts = np.bincount(source.train.labels), np.bincount(source.test.labels)
    assert np.abs(counts[1] - 0.2 * (counts[0] + counts[1])).max() < 1
    pixels = pixels_of(source.train)
    assert pixels.shape[1:] == (8, 8, 3)
    assert pixels.max() == 255
    assert len(np.unique(pixels)) == 17


@pytest.mark.parametrize("kind", ["parquet_set", "image_folder"])
def test_data_one_folder_deeper_are_found(tmp_path, request, opened, kind):
    folder = request.getfixturevalue(kind)
    folder.rename(tmp_path / "data")
    folder.mkdir()
    (tmp_path / "data").rename(folder / "data")
    (folder / "README.md").write_text("x")
    (folder / "__MACOSX").mkdir()
    assert opened().classes == ["cat", "dog"]


@pytest.mark.parametrize("name", ["digits", "cifar10", "owner/name"])
def test_the_users_own_files_win_over_what_is_built_in_and_over_the_hub(tmp_path, image_folder, opened, name):
    (tmp_path / "raw" / name).parent.mkdir(exist_ok=True)
    image_folder.rename(tmp_path / "raw" / name)
    assert opened(name).classes == ["cat", "dog"]


@pytest.mark.parametrize("column", ["image_column", "label_column"])
def test_what_is_no_table_has_no_columns(image_folder, refused, column):
    for name in ("mine", "digits"):
        assert refused(name, **{column: "x"}) == f"{name} is no table; allowed for image_column and label_column: null"


def test_several_data_sets_in_one_folder_are_refused(tmp_path, refused):
    for path in ("a/train/x/1.png", "b/train/x/1.png"):
        write_image(tmp_path / "raw/mine" / path)
        write_parquet(tmp_path / "raw/tables" / path[0] / "train-0.parquet", [], [])
    write_image(tmp_path / "raw/both/images/train/x/1.png")
    write_parquet(tmp_path / "raw/both/train-0.parquet", [], [])
    for name in ("mine", "tables", "both"):
        assert f"raw/{name} holds several data sets" in refused(name)


@pytest.mark.parametrize(
    "content", [{"notes.doc": b"x"}, {"cifar-10-batches-py/data_batch_1": b"\x80"}, {"train/x": b""}]
)
def test_files_in_no_layout_are_refused_rather_than_passed_over(tmp_path, refused, content):
    for name, text in content.items():
        path = tmp_path / "raw/cifar10" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(text)
    message = refused("cifar10")
    assert "raw/cifar10 cannot be read (" in message
    assert "; put there train-*.parquet and test-*.parquet, or train/<class>/ and test/<class>/" in message


def test_an_unknown_data_set_is_told_what_to_put_where(tmp_path, refused):
    assert refused("yours") == (
        "no data set 'yours': put train-*.parquet and test-*.parquet, or train/<class>/ and test/<class>/ with images"
        f" in {tmp_path}/raw/yours/, or use digits, cifar10, cifar100, fashion-mnist, tiny-imagenet, or owner/name on"
        " the Hub"
    )
