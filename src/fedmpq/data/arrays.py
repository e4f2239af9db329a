"""Images decoded once into memory-mapped arrays, and the data set that opens them."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fedmpq.data.images import decode
from fedmpq.data.splits import Encoded, Source, Split
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
        side = image_size or _stored_side(source.train)
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


def _stored_side(split: Split) -> int:
    place, image = next(split.images())
    height, width, _ = decode(image, place, None).shape
    if height != width:
        raise UserError(f"{place}: the image is {width} x {height} pixels, not square; set image_size (e.g. 32)")
    return height


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
    def pixels(item: tuple[str, Encoded]) -> NDArray[np.uint8]:
        place, image = item
        decoded = decode(image, place, image_size)
        height, width, _ = decoded.shape
        if (height, width) != (side, side):
            sizes = f"the image is {width} x {height} pixels, the first one {side} x {side}"
            raise UserError(f"{place}: {sizes}; set image_size (e.g. {side}) to scale all")
        return decoded

    images = split.images()
    bar = tqdm(total=len(split.labels), desc=f"decoding {part}", unit=" images", disable=None, leave=False)
    with ThreadPoolExecutor() as pool, bar:
        while chunk := list(islice(images, IMAGES_AT_A_TIME)):
            yield np.stack(list(pool.map(pixels, chunk)))
            bar.update(len(chunk))


@dataclass(frozen=True)
class Dataset:
    """A prepared data set; the arrays are memory-mapped and read-only."""

    name: str
    classes: list[str]
    image_size: int
    """Side in pixels, S."""
    mean: list[float]
    """Of the training images, per channel, in 0 .. 1."""
    std: list[float]
    """As `mean`; never 0."""
    train_images: NDArray[np.uint8]
    """(N, S, S, 3)."""
    train_labels: NDArray[np.int64]
    """(N,), 0 .. classes - 1."""
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]

    @classmethod
    def load(cls, folder: Path) -> "Dataset":
        """Open what `prepare` wrote into `folder`.

        Raises:
            UserError: it is missing, incomplete or damaged.
        """
        if not folder.is_dir():
            raise UserError(f"{folder} is missing; make it with: dvc repro")
        try:
            meta = json.loads((folder / "meta.json").read_text())
            parts = [f"{part}_{kind}" for part in ("train", "test") for kind in ("images", "labels")]
            arrays = {part: np.load(folder / f"{part}.npy", mmap_mode="r") for part in parts}
            dataset = cls(meta["data"], meta["classes"], meta["image_size"], meta["mean"], meta["std"], **arrays)
            dataset._check(meta["train"], meta["test"])
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise UserError(f"{folder} is incomplete or damaged ({error}); delete it and run: dvc repro") from error
        return dataset

    def _check(self, train: int, test: int) -> None:
        side = self.image_size
        for images, labels, count in (
            (self.train_images, self.train_labels, train),
            (self.test_images, self.test_labels, test),
        ):
            if images.dtype != np.uint8 or images.shape != (count, side, side, 3):
                raise ValueError(f"images {images.dtype} {images.shape} for {count} of {side} pixels")
            if labels.dtype != np.int64 or labels.shape != (count,) or not count:
                raise ValueError(f"labels {labels.dtype} {labels.shape} for {count} images")
            if labels.min() < 0 or labels.max() >= len(self.classes):
                raise ValueError(f"labels from {labels.min()} to {labels.max()} for {len(self.classes)} classes")
