"""Images decoded once into arrays that `fedmpq.data.arrays` opens."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fedmpq.data.images import decode
from fedmpq.data.splits import Source, Split
from fedmpq.errors import UserError
from fedmpq.files import replacing, write_json

IMAGES_AT_A_TIME = 128


def prepare(name: str, source: Source, image_size: int | None, folder: Path) -> None:
    """Decode `source` into `folder`, which appears as a whole or stays as it was.

    The same source gives the same bytes. Memory stays bounded whatever the number of images.

    Args:
        name: of the data set.
        source: see `fedmpq.data.sources.open_source`.
        image_size: side in pixels to which images are scaled; None: as they are stored, which must be
            one square size.
        folder: gets train_images.npy (uint8, N x H x W x 3), train_labels.npy (int64, N), the same for
            test, and meta.json.

    Raises:
        UserError: an image cannot be decoded or has another size, or there is no space or permission.
    """
    with replacing(folder) as temporary:
        temporary.mkdir()
        side = image_size or len(_pixels(source.train, 0, None))
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
    """Mean and standard deviation of each channel, in units of full brightness.

    Args:
        histogram: (3, 256), how often each value occurs in a channel. Sums over it are whole numbers,
            so the result does not depend on an order of additions.

    Returns:
        Two lists of 3 numbers. A channel of one single value gets the deviation 1, to divide by.
    """
    means, deviations = [], []
    for channel in histogram.tolist():
        count = sum(channel)
        total = sum(value * often for value, often in enumerate(channel))
        squares = sum(value * value * often for value, often in enumerate(channel))
        means.append(total / count / 255)
        deviations.append((count * squares - total * total) ** 0.5 / count / 255 or 1.0)
    return means, deviations


def _write(split: Split, image_size: int | None, side: int, folder: Path, part: str) -> NDArray[np.int64]:
    """Write images and labels of a split; returns the images' histogram, (3, 256)."""
    count = len(split.labels)
    np.save(folder / f"{part}_labels.npy", split.labels)
    histogram = np.zeros((3, 256), dtype=np.int64)
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, side, side, 3)}
    # Written, not memory-mapped: on a full disk a write raises an error, a memory map kills the process.
    with (folder / f"{part}_images.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for pixels in _decoded(split, image_size, side, part):
            file.write(pixels.tobytes())
            histogram += [np.bincount(pixels[..., channel].ravel(), minlength=256) for channel in range(3)]
    return histogram


def _decoded(split: Split, image_size: int | None, side: int, part: str) -> Iterator[NDArray[np.uint8]]:
    """The images of a split in order, stacked, (at most `IMAGES_AT_A_TIME`, side, side, 3) at a time."""
    count = len(split.labels)
    bar = tqdm(total=count, desc=f"decoding {part}", unit=" images", disable=None, leave=False)
    with ThreadPoolExecutor() as pool, bar:
        for start in range(0, count, IMAGES_AT_A_TIME):
            chunk = range(start, min(start + IMAGES_AT_A_TIME, count))
            yield np.stack(list(pool.map(lambda number: _pixels(split, number, image_size, side), chunk)))
            bar.update(len(chunk))


def _pixels(split: Split, number: int, image_size: int | None, side: int | None = None) -> NDArray[np.uint8]:
    """Image `number`, which must be square, and of `side` pixels where that is given."""
    try:
        pixels = decode(split.image(number), image_size)
        height, width, _ = pixels.shape
        if side is None and height != width:
            raise UserError(f"the image is {width} x {height} pixels, not square; set image_size (e.g. 32)")
        if side is not None and (height, width) != (side, side):
            sizes = f"the image is {width} x {height} pixels, the first one {side} x {side}"
            raise UserError(f"{sizes}; set image_size (e.g. {side}) to scale all")
    except UserError as error:
        raise UserError(f"{split.place(number)}: {error}") from error
    return pixels
