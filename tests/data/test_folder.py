import pytest
from image_files import pixels_of, write_image

from fedmpq.data.folder import folder_source
from fedmpq.errors import UserError


def read(folder):
    return folder_source(folder, "data/raw/mine")


def first_values(split):
    return pixels_of(split)[:, 0, 0, 0].tolist()


def refused(folder):
    with pytest.raises(UserError) as caught:
        read(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_classes_and_files_are_sorted(image_folder):
    source = read(image_folder)
    assert source.classes == ["cat", "dog"]
    assert source.description == "image folder data/raw/mine"
    assert source.train.labels.tolist() == [0, 1, 1]
    assert first_values(source.train) == [3, 2, 1]
    assert source.test.labels.tolist() == [0, 1]
    assert first_values(source.test) == [5, 4]


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_other_names_of_the_test_folder(image_folder, name):
    (image_folder / "test").rename(image_folder / name)
    assert len(read(image_folder).test.labels) == 2


def test_hidden_files_and_other_files_are_left_out(image_folder):
    (image_folder / "train/dog/.DS_Store").write_bytes(b"x")
    (image_folder / "train/dog/._a.png").write_bytes(b"x")
    (image_folder / "train/dog/boxes.txt").write_text("x")
    (image_folder / "train/readme.txt").write_text("x")
    for hidden in ("train/.cache/x.png", "train/__MACOSX/x.png", "test/.cache/x.png", "train/dog/.cache/x.png"):
        write_image(image_folder / hidden)
    source = read(image_folder)
    assert source.classes == ["cat", "dog"]
    assert len(source.train.labels) == 3


def test_any_case_of_extensions_and_deeper_folders(image_folder):
    write_image(image_folder / "train/dog/images/x.PNG")
    write_image(image_folder / "train/dog/y.JPEG")
    (image_folder / "train/dog/z.png").mkdir()
    assert read(image_folder).train.labels.tolist() == [0, 1, 1, 1, 1]


def test_a_class_without_test_images_or_with_an_empty_folder_is_fine(image_folder):
    (image_folder / "test/cat/e.png").unlink()
    (image_folder / "train/bird").mkdir()
    source = read(image_folder)
    assert source.classes == ["bird", "cat", "dog"]
    assert source.test.labels.tolist() == [2]


def test_a_class_of_the_test_set_alone_is_refused(image_folder):
    write_image(image_folder / "test/fox/f.png")
    assert "test/fox: there is no class 'fox' in the training set" in refused(image_folder)


def test_training_images_alone_are_refused(image_folder):
    (image_folder / "test").rename(image_folder / "other")
    assert "has train but no test (or val); put the test images in" in refused(image_folder)


def test_the_training_folder_as_test_folder_is_refused(image_folder):
    (image_folder / "test").rename(image_folder / "other")
    (image_folder / "test").symlink_to(image_folder / "train")
    assert "test is the training folder" in refused(image_folder)


@pytest.mark.parametrize("part", ["train", "test"])
def test_an_empty_set_is_refused(image_folder, part):
    for image in (image_folder / part).rglob("*.png"):
        image.unlink()
    assert f"{part} holds no images; put them in" in refused(image_folder)


def test_an_image_that_cannot_be_decoded_is_named(image_folder):
    (image_folder / "train/cat/c.png").write_bytes(b"")
    with pytest.raises(
        UserError, match=r"train/cat/c\.png: the image cannot be decoded \(no image in a known format\)"
    ):
        pixels_of(read(image_folder).train)


@pytest.fixture
def tiny_imagenet(tmp_path):
    for path in ("train/n1/images/n1_0.JPEG", "train/n2/images/n2_0.JPEG", "val/images/v0.JPEG", "val/images/v1.JPEG"):
        write_image(tmp_path / path)
    write_image(tmp_path / "test/images/test_0.JPEG")  # comes without labels
    (tmp_path / "val/val_annotations.txt").write_text("v0.JPEG\tn2\t0\t0\t9\t9\nv1.JPEG\tn1\t0\t0\t9\t9\n")
    return tmp_path


def test_tiny_imagenet_as_it_is_unpacked(tiny_imagenet):
    source = read(tiny_imagenet)
    assert source.classes == ["n1", "n2"]
    assert source.train.labels.tolist() == [0, 1]
    assert source.test.labels.tolist() == [1, 0]
    assert [place.rsplit("/", 1)[1] for place, _ in source.test.images()] == ["v0.JPEG", "v1.JPEG"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v0.JPEG\tn3", "line 1: no class 'n3'"),
        ("\nv9", "line 1: no class ''"),
        ("", "is empty"),
        ("v9\tn1", "no file"),
    ],
)
def test_a_damaged_list_of_tiny_imagenet_is_refused(tiny_imagenet, text, message):
    (tiny_imagenet / "val/val_annotations.txt").write_text(text)
    assert message in refused(tiny_imagenet)
