import os

import pytest
from image_files import encode, pixels_of, write_image


def first_values(split):
    return pixels_of(split)[:, 0, 0, 0].tolist()


def test_classes_and_files_are_sorted(image_folder, opened):
    source = opened()
    assert source.classes == ["cat", "dog"]
    assert source.description == "image folder data/raw/mine"
    assert source.train.labels.tolist() == [0, 1, 1]
    assert first_values(source.train) == [3, 2, 1]
    assert source.test.labels.tolist() == [0, 1]
    assert first_values(source.test) == [5, 4]
    assert source.train.place(2) == f"{image_folder}/train/dog/b.png"


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_other_names_of_the_test_folder(image_folder, opened, name):
    (image_folder / "test").rename(image_folder / name)
    source = opened()
    assert len(source.test.labels) == 2
    assert source.description == f"image folder data/raw/mine, tested on {name}"


def test_hidden_files_and_other_files_are_left_out(image_folder, opened):
    (image_folder / "train/dog/.DS_Store").write_bytes(b"x")
    (image_folder / "train/dog/._a.png").write_bytes(b"x")
    (image_folder / "train/dog/boxes.txt").write_text("x")
    (image_folder / "train/readme.txt").write_text("x")
    for hidden in ("train/.cache/x.png", "train/__MACOSX/x.png", "test/.cache/x.png", "train/dog/.cache/x.png"):
        write_image(image_folder / hidden)
    source = opened()
    assert source.classes == ["cat", "dog"]
    assert len(source.train.labels) == 3


def test_any_case_of_extensions_and_deeper_folders(image_folder, opened):
    write_image(image_folder / "train/dog/images/x.PNG")
    write_image(image_folder / "train/dog/y.JPEG")
    (image_folder / "train/dog/z.png").mkdir()
    assert opened().train.labels.tolist() == [0, 1, 1, 1, 1]


def test_classes_that_are_called_like_parts(tmp_path, opened):
    for path in ("train/test/1", "train/train/2", "train/val/3", "test/train/4", "test/test/5", "test/val/6"):
        write_image(tmp_path / f"raw/mine/{path}.png")
    source = opened()
    assert source.classes == ["test", "train", "val"]
    assert source.train.labels.tolist() == source.test.labels.tolist() == [0, 1, 2]


def test_a_class_with_an_empty_folder_gives_a_warning(image_folder, opened, capsys):
    (image_folder / "test/cat/e.png").unlink()
    (image_folder / "train/bird").mkdir()
    source = opened()
    assert source.classes == ["bird", "cat", "dog"]
    assert source.test.labels.tolist() == [2]
    assert capsys.readouterr().err == "warning: image folder data/raw/mine: no training image is of class bird\n"


def test_a_class_of_the_test_set_alone_is_refused(image_folder, refused):
    write_image(image_folder / "test/fox/f.png")
    assert "test/fox/f.png: label 'fox' is not allowed; allowed: cat to dog, as for training" in refused()


def test_without_a_test_folder_a_fifth_of_each_class_is_held_out(tmp_path, opened):
    for number in range(30):
        write_image(tmp_path / f"raw/mine/train/{'abb'[number % 3]}/{number}.png", (number, 0, 0))
    source = opened()
    assert source.description == "image folder data/raw/mine, a fifth of it for testing"
    assert source.test.labels.tolist() == [0] * 2 + [1] * 4
    assert sorted(first_values(source.train) + first_values(source.test)) == list(range(30))
    assert source.test.place(0).endswith(f"train/a/{first_values(source.test)[0]}.png")


@pytest.mark.parametrize(("part", "name"), [("train", "training"), ("test", "test")])
def test_an_empty_part_is_refused(image_folder, refused, part, name):
    for image in (image_folder / part).rglob("*.png"):
        image.unlink()
    assert refused() == f"image folder data/raw/mine: there are no {name} images; add some"


@pytest.mark.parametrize("name", [b"M\xfcnchen", b"\xe9t\xe9", b"\xff"])
def test_a_class_name_that_is_not_utf8_is_refused(image_folder, refused, name):
    (image_folder / "train" / os.fsdecode(name)).mkdir()
    assert "is not UTF-8; rename it" in (message := refused())
    assert message.isascii()


def test_names_of_files_need_not_be_utf8(image_folder, opened):
    (image_folder / "train/cat" / os.fsdecode(b"\xfc.png")).write_bytes(encode((9, 9, 9)))
    assert first_values(opened().train) == [3, 9, 2, 1]
