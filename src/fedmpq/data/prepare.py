"""Images decoded once into arrays that `fedmpq.data.arrays` opens."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from fedmpq.data.splits import Encoded, Source, Split
from fedmpq.errors import UserError
from fedmpq.files import replacing, write_json

CHUNK = 128  # images that are decoded at a time


def prepare(name: str, source: Source, image_size: int | None, folder: Path) -> None:
    """Decode `source`, called `name`, into `folder`, which appears as a whole or stays as it was.

    It gets train_images.npy (uint8, N x S x S x 3), train_labels.npy (int64, N), the same for test, and meta.json; the
    same bytes for the same source. Images are scaled to S = `image_size`, or if None must be of one square size.

    Raises:
        UserError: an image cannot be decoded or has another size, or there is no space or permission.
    """
    with replacing(folder) as temporary:
        temporary.mkdir()
        side = image_size or len(_pixels(source.train, None, None, 0))
        histogram = _write(source.train, image_size, side, temporary, "train")
        _write(source.test, image_size, side, temporary, "test")
        mean, std = statistics(histogram)
        meta = {
            "data": name,
            "classes": source.classes,
            "image_size": side,
            "mean": mean,
            "std": std,
            "train": len(source.train.labels),
            "test": len(source.test.labels),
            "source": source.description,
        }
        write_json(temporary / "meta.json", meta)


def statistics(histogram: NDArray[np.int64]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, in units of full brightness; of a single value the deviation is 1.

    `histogram` (3, 256) says how often each value occurs. Sums over it are whole numbers, in any order the same.
    """
    means, deviations = [], []
    for channel in histogram:
        count, total, squares = (int(channel @ np.arange(256) ** power) for power in range(3))
        means.append(total / count / 255)
        deviations.append((count * squares - total * total) ** 0.5 / count / 255 or 1.0)
    return means, deviations


def _write(split: Split, image_size: int | None, side: int, folder: Path, part: str) -> NDArray[np.int64]:
    """Write images and labels of a split; returns the images' histogram, (3, 256)."""
    np.save(folder / f"{part}_labels.npy", split.labels)
    histogram, images = np.zeros((3, 256), dtype=np.int64), range(len(split.labels))
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(images), side, side, 3)}
    starts = tqdm(images[::CHUNK], f"decoding {part}", unit=" images", unit_scale=CHUNK, disable=None, leave=False)
    # Written, not memory-mapped: on a full disk a write raises an error, a memory map kills the process.
    with (folder / f"{part}_images.npy").open("wb") as file, ThreadPoolExecutor() as pool:
        np.lib.format.write_array_header_1_0(file, header)
        for start in starts:
            chunk = images[start : start + CHUNK]
            pixels = np.stack(list(pool.map(partial(_pixels, split, image_size, side), chunk)))
            file.write(pixels.tobytes())
            histogram += [np.bincount(pixels[..., channel].ravel(), minlength=256) for channel in range(3)]
    return histogram


def _pixels(split: Split, image_size: int | None, side: int | None, number: int) -> NDArray[np.uint8]:
    """Image `number`, which must be square, and of `side` pixels where that is given."""
    try:
        pixels = decode(split.image(number), image_size)
        height, width, _ = pixels.shape
        side = side or height
        if (height, width) != (side, side):
            size = f"{width} x {height} pixels, not {side} x {side}"
            raise UserError(f"the image is {size}; set image_size (e.g. {side}) to scale all")
    except UserError as error:
        raise UserError(f"{split.place(number)}: {error}") from error
    return pixels


def decode(encoded: Encoded, image_size: int | None) -> NDArray[np.uint8]:
    """The pixels of an image, (H, W, 3), 0 .. 255.

    With `image_size` the shorter side is scaled to so many pixels and the centre cropped.

    Raises:
        UserError: it cannot be decoded.
    """
    try:
        with Image.fromarray(encoded) if isinstance(encoded, np.ndarray) else Image.open(encoded) as image:
            image.load()
            with suppress(Exception):  # EXIF that cannot be read takes nothing from the pixels
                ImageOps.exif_transpose(image, in_place=True)
            pixels = _rgb(image)
    except Exception as error:  # a damaged file makes PIL raise nearly anything
        unknown = "no image in a known format" if isinstance(error, UnidentifiedImageError) else ""
        reason = unknown or " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"the image cannot be decoded ({reason}); replace or remove it") from error
    if image_size is not None and pixels.size != (image_size, image_size):
        pixels = ImageOps.fit(pixels, (image_size, image_size), Image.Resampling.BICUBIC)
    return np.asarray(pixels)


def _rgb(image: Image.Image) -> Image.Image:
    """`image` as RGB: 16 bits scaled to 8, what is transparent on white."""
    if image.mode == "F" or image.mode.startswith("I"):  # PIL would clip these at 255 instead of scaling them
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise ValueError("more than 16 bits a pixel")
        image = Image.fromarray((values // 256).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")
