"""What every kind of source gives: labels at hand, images still encoded."""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmpq.data.dirichlet import validation_split
from fedmpq.data.images import Encoded
from fedmpq.errors import UserError


@dataclass(frozen=True)
class Split:
    """The training or the test images of a data set."""

    labels: NDArray[np.int64]
    """(N,), 0 .. classes - 1."""
    image: Callable[[int], Encoded]
    """Gives image n (from 0) as it is stored; UserError where there is none."""
    place: Callable[[int], str]
    """Where image n stands (file and row), for error messages."""

    def select(self, chosen: NDArray[np.int64]) -> "Split":
        """The images at the indices `chosen`, in their order."""
        return Split(self.labels[chosen], lambda n: self.image(int(chosen[n])), lambda n: self.place(int(chosen[n])))

    def hold_out(self) -> tuple["Split", "Split"]:
        """Training and test images where there is no test set: a fifth of each class is for testing."""
        train, test = validation_split(self.labels, 0.2, seed=0)
        return self.select(train), self.select(test)


@dataclass(frozen=True)
class Source:
    """A data set as it is found, not yet decoded.

    Raises:
        UserError: there are no images or fewer than 2 classes, or a class has a name that is not UTF-8.
    """

    description: str
    """One phrase for people, without absolute paths: the same on every machine."""
    classes: list[str]
    """Names of the classes, in the order of the labels."""
    train: Split
    test: Split

    def __post_init__(self) -> None:
        for part, split in (("training", self.train), ("test", self.test)):
            if not len(split.labels):
                raise UserError(f"{self.description}: there are no {part} images; add some")
        if len(self.classes) < 2:
            raise UserError(f"{self.description}: only the class {self.classes} is there; at least 2 are needed")
        for name in self.classes:
            try:
                name.encode()
            except UnicodeEncodeError as error:
                raise UserError(f"{self.description}: the class name {name!r} is not UTF-8; rename it") from error

    @classmethod
    def of(cls, description: str, classes: list[str], parts: Mapping[str, Split]) -> "Source":
        """A part `train`, and another one to test on, else a fifth of the training images, as the description says."""
        train, *tests = parts
        if not tests:
            return cls(f"{description}, a fifth of it for testing", classes, *parts[train].hold_out())
        tested = "" if tests == ["test"] else f", tested on {tests[0]}"
        return cls(description + tested, classes, *parts.values())


def used(parts: Container[str]) -> list[str]:
    """`train` and the best of `parts` to test on, where there is one."""
    return ["train", *[name for name in ("test", "validation", "valid", "val") if name in parts][:1]]
