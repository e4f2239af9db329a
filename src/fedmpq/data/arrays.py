"""The arrays that `fedmpq.data.prepare` writes, opened and checked."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmpq.errors import UserError


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
