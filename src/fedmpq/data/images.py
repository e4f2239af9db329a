"""One image: from an encoded file of any mode to square RGB pixels."""

from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fedmpq.errors import UserError

Encoded: TypeAlias = bytes | Path | NDArray[np.uint8]
"""An image: the bytes of a file, a file, or pixels (H, W) or (H, W, 3)."""


def decode(encoded: Encoded, image_size: int | None) -> NDArray[np.uint8]:
    """The pixels of an image, (H, W, 3), 0 .. 255.

    Args:
        encoded: the image.
        image_size: scale the shorter side to so many pixels and crop the centre; None: leave the size.

    Raises:
        UserError: it cannot be decoded.
    """
    try:
        with _open(encoded) as image:
            image.load()
            with suppress(Exception):  # EXIF that cannot be read takes nothing from the pixels
                ImageOps.exif_transpose(image, in_place=True)
            pixels = _rgb(image)
    except Exception as error:  # a damaged file makes PIL raise nearly anything
        raise UserError(f"the image cannot be decoded ({_reason(error)}); replace or remove it") from error
    if image_size is not None and pixels.size != (image_size, image_size):
        pixels = ImageOps.fit(pixels, (image_size, image_size), Image.Resampling.BICUBIC)
    return np.asarray(pixels)


def _open(encoded: Encoded) -> Image.Image:
    if isinstance(encoded, np.ndarray):
        return Image.fromarray(encoded)
    return Image.open(encoded if isinstance(encoded, Path) else BytesIO(encoded))


def _rgb(image: Image.Image) -> Image.Image:
    """`image` as RGB: 16 bits scaled to 8, what is transparent on white."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _from_16_bits(np.asarray(image))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _from_16_bits(values: NDArray) -> Image.Image:
    """PIL would clip these at 255 instead of scaling them."""
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        raise ValueError("more than 16 bits a pixel")
    return Image.fromarray((values // 256).astype(np.uint8)).convert("RGB")


def _reason(error: Exception) -> str:
    if "cannot identify image file" in str(error):
        return "no image in a known format"
    return " ".join(str(error).split()) or type(error).__name__
