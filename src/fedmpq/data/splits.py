"""What every kind of source gives: labels at hand, images still encoded, one after another."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedmpq.errors import UserError

Encoded: TypeAlias = bytes | Path | NDArray[np.uint8]
"""An image: the bytes of a file, a file, or pixels (H, W) or (H, W, 3)."""


@dataclass(frozen=True)
class Split:
    """The training or the test images of a data set."""

    labels: NDArray[np.int64]
    """(N,), 0 .. classes - 1."""
    images: Callable[[], Iterator[tuple[str, Encoded]]]
    """Starts an iteration over the N images; each with its place (file and row), for error messages."""


@dataclass(frozen=True)
class Source:
    """A data set as it is found, not yet decoded."""

    description: str
    """One phrase for people, without absolute paths: the same on every machine."""
    classes: list[str]
    """Names of the classes, in the order of the labels."""
    train: Split
    test: Split

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise UserError(f"{self.description}: only the class {self.classes} is there; at least 2 are needed")
