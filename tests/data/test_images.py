import io

import numpy as np
import pytest
from PIL import Image

from fedmpq.data import prepare
from fedmpq.errors import UserError


def file_of(image, extension="png", **options):
    buffer = io.BytesIO()
    image.save(buffer, extension, **options)
    return buffer.getvalue()


def decode(image, image_size):
    return prepare.decode(io.BytesIO(image) if isinstance(image, bytes) else image, image_size)


def only_color(encoded):
    pixels = decode(encoded, None)
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
    colors = np.unique(pixels.reshape(-1, 3), axis=0)
    assert len(colors) == 1
    return colors[0].tolist()


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("RGB", (10, 20, 30), [10, 20, 30]),
        ("L", 77, [77, 77, 77]),
        ("1", 1, [255, 255, 255]),
        ("LA", (77, 255), [77, 77, 77]),
        ("RGBA", (10, 20, 30, 255), [10, 20, 30]),
        ("RGBA", (10, 20, 30, 0), [255, 255, 255]),
        ("RGBA", (0, 0, 0, 128), [127, 127, 127]),
        ("I;16", 65535, [255, 255, 255]),
        ("I;16", 255 * 256, [255, 255, 255]),
        ("I;16", 255 * 256 - 1, [254, 254, 254]),
        ("I;16", 257 * 100, [100, 100, 100]),
    ],
)
def test_every_mode_becomes_rgb(mode, color, expected):
    assert only_color(file_of(Image.new(mode, (4, 4), color))) == expected


def test_palette_with_and_without_transparency():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert only_color(file_of(image)) == [10, 20, 30]
    assert only_color(file_of(image, transparency=1)) == [255, 255, 255]


def test_cmyk_and_files_of_other_formats():
    assert only_color(file_of(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "jpeg")) == [255, 255, 255]
    assert only_color(file_of(Image.new("RGB", (8, 8), (10, 20, 30)), "webp", lossless=True)) == [10, 20, 30]


def test_a_photo_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    assert decode(file_of(Image.new("RGB", (8, 4)), "jpeg", exif=exif), None).shape == (8, 4, 3)


@pytest.mark.parametrize("extension", ["png", "jpeg", "webp"])
@pytest.mark.parametrize(
    "exif",
    [b"\x00\x08\x00\x02\x01\x12\x00\x03", b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x12\0\x03", b"Exif\0\0", b"garbage"],
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_metadata_that_cannot_be_read_are_ignored(extension, exif):
    image = Image.new("RGB", (8, 4), (10, 20, 30))
    assert (decode(file_of(image, extension, exif=exif), None) == decode(file_of(image, extension), None)).all()


def test_broken_metadata_do_not_excuse_broken_pixels():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    with pytest.raises(UserError, match="cannot be decoded"):
        decode(file_of(noise, exif=b"garbage")[:150], None)


def test_floating_point_is_refused():
    with pytest.raises(UserError, match=r"^the image cannot be decoded \(more than 16 bits a pixel\)"):
        decode(file_of(Image.new("F", (4, 4), 0.5), "tiff"), None)


def test_scaling_crops_the_centre_of_what_is_not_square():
    pixels = np.zeros((8, 32, 3), dtype=np.uint8)
    pixels[:, 12:20] = 200
    scaled = decode(pixels, 4)
    assert scaled.shape == (4, 4, 3)
    assert scaled[:, 1:3].min() > 180
    assert decode(pixels.transpose(1, 0, 2).copy(), 4)[1:3].min() > 180


def test_scaling_to_the_stored_size_changes_nothing():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert (decode(pixels, 8) == pixels).all()
    assert (decode(pixels, None) == pixels).all()


@pytest.mark.parametrize("keep", [0, 20, 60])
def test_what_cannot_be_decoded_is_named_in_one_line(keep):
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    with pytest.raises(UserError) as caught:
        decode(file_of(Image.fromarray(noise))[:keep], None)
    message = str(caught.value)
    assert message.startswith("the image cannot be decoded (")
    assert "\n" not in message
    assert "BytesIO" not in message
