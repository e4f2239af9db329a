"""What every kind of source gives: labels at hand, images still encoded."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fedmpq.data.dirichlet import validation_split
from fedmpq.errors import UserError

Encoded = BinaryIO | Path | NDArray[np.uint8]
"""An image: a file, open or not, or pixels (H, W) or (H, W, 3)."""
PARTS = ("train", "test", "validation", "valid", "val")
"""Names of the part to train on, and of those to test on, the preferred first."""


@dataclass(frozen=True)
class Split:
    """The training or the test images of a data set."""

    labels: Sequence[Any] | NDArray[np.int64]
    """(N,), as they are stored; in a `Source` 0 .. classes - 1."""
    image: Callable[[int], Encoded]
    """Gives image n (from 0) as it is stored; UserError where there is none."""
    place: Callable[[int], str]
    """Where image n stands, for error messages."""

    def numbered(self, classes: Sequence[Any]) -> "Split":
        """The same with the index in `classes` for each label; UserError where it is not there."""
        numbers = {label: number for number, label in enumerate(classes)}
        for row, label in enumerate(self.labels):
            if label not in numbers:
                known = " to ".join(str(label) for label in (*classes[:1], *classes[-1:]))
                raise UserError(f"{self.place(row)}: label {label!r} is not allowed; allowed: {known}, as for training")
        labels = np.array([numbers[label] for label in self.labels], dtype=np.int64)
        return Split(labels, self.image, self.place)

    def hold_out(self) -> tuple["Split", "Split"]:
        """Training and test images where there is no test set: a fifth of each class is for testing."""
        train, test = validation_split(self.labels, 0.2, seed=0)
        return self._select(train), self._select(test)

    def _select(self, chosen: NDArray[np.int64]) -> "Split":
        return Split(self.labels[chosen], lambda n: self.image(int(chosen[n])), lambda n: self.place(int(chosen[n])))


@dataclass(frozen=True)
class Source:
    """A data set as it is found, not yet decoded."""

    description: str
    """One phrase for people, without absolute paths: the same on every machine."""
    classes: list[str]
    """Names of the classes, in the order of the labels."""
    train: Split
    test: Split

    @classmethod
    def of(cls, description: str, classes: Mapping[Any, str], parts: Mapping[str, Split]) -> "Source":
        """The data set of `parts`: the first to train on, the second to test on; or, if alone, a fifth of the first.

        Args:
            description: completed by what is tested on, unless it is the part `test`.
            classes: name of each label that there may be, in order.
            parts: by name, in the order of `PARTS`.

        Raises:
            UserError: there are no images or fewer than 2 classes, or a label or a class's name is not allowed.
        """
        train, *tests = (split.numbered(list(classes)) for split in parts.values())
        tested = f", tested on {list(parts)[1]}" if tests else ", a fifth of it for testing"
        train, test = (train, tests[0]) if tests else train.hold_out()
        names = list(classes.values())
        for part, split in (("training", train), ("test", test)):
            if not len(split.labels):
                raise UserError(f"{description}: there are no {part} images; add some")
        if len(names) < 2:
            raise UserError(f"{description}: only the class {names} is there; at least 2 are needed")
        for name in names:
            if name != name.encode(errors="replace").decode():
                raise UserError(f"{description}: the class name {name!r} is not UTF-8; rename it")
        if unused := [names[label] for label in sorted(set(range(len(names))).difference(train.labels.tolist()))]:
            listed = ", ".join(unused[:5]) + (" ..." if unused[5:] else "")
            print(f"warning: {description}: no training image is of class {listed}", file=sys.stderr)
        return cls(description + tested.removesuffix(", tested on test"), names, train, test)
