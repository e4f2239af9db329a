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
            expected, side = {}, meta["image_size"]
            for part in ("train", "test"):
                expected[f"{part}_images"] = (np.uint8, (meta[part], side, side, 3))
                expected[f"{part}_labels"] = (np.int64, (meta[part],))
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in expected}
            for name, array in arrays.items():
                if (array.dtype, array.shape) != expected[name]:
                    raise ValueError(f"{name} is {array.dtype} {array.shape}")
            return cls(meta["data"], meta["classes"], side, meta["mean"], meta["std"], **arrays)
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise UserError(f"{folder} is incomplete or damaged ({error}); delete it and run: dvc repro") from error
