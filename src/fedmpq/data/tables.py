"""Tables of the library `datasets`: which column holds the images and which the labels, and what they mean."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fedmpq.data.images import Encoded
from fedmpq.data.splits import Source, Split, used
from fedmpq.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

IMAGE_NAMES = ("img", "image")
LABEL_NAMES = ("label", "fine_label")


@dataclass(frozen=True)
class Tables:
    """A data set as the library gives it."""

    description: str
    """See `Source`."""
    parts: "Mapping[str, Dataset]"
    """By name: train, test, ..."""
    root: Path
    """Images that are not in the tables themselves must be files below this folder."""
    places: Mapping[str, Callable[[int], str]]
    """Of parts: in which file a row is, and where."""

    def source(self, image_column: str | None, label_column: str | None) -> Source:
        """Training and test images.

        Raises:
            UserError: a part or a column is missing, or labels are no labels.
        """
        from datasets import ClassLabel, Image

        if "train" not in self.parts:
            raise UserError(f"{self.description}: there is no part train, only {', '.join(self.parts)}; add it")
        image = self._column("image", image_column, Image, IMAGE_NAMES)
        label = self._column("label", label_column, ClassLabel, LABEL_NAMES)
        classes = self._classes(label)
        splits = {part: self._split(part, image, label, list(classes)) for part in used(self.parts)}
        return Source.of(self.description, list(classes.values()), splits)

    def _column(self, what: str, given: str | None, kind: type, usual: tuple[str, ...]) -> str:
        """The column `given`, or the only one of its kind, or one of a usual name."""
        features = self.parts["train"].features
        typed = [name for name, feature in features.items() if isinstance(feature, kind)]
        for name in (given,) if given else (*(typed if len(typed) == 1 else ()), *usual):
            if name in features:
                return name
        problem = f"no column {given or ' or '.join(usual)}, only {', '.join(features)}"
        raise UserError(f"{self.description}: there is {problem}; set {what}_column to the right one")

    def _classes(self, column: str) -> dict[Any, str]:
        """The labels that are allowed, in order, each with the name of its class."""
        feature = self.parts["train"].features[column]
        if names := getattr(feature, "names", None):
            return dict(enumerate(names))
        kind = str(getattr(feature, "dtype", feature))
        if not re.match(r"u?int|bool|(large_)?string", kind):
            raise UserError(f"{self.description}: the labels in {column} are {kind}; they must be integers or text")
        labels = set(self._values("train", column)) - {None}
        if "string" in kind:
            return {name: name for name in sorted(labels)}
        if unused := set(range(len(labels))) - labels:
            found = f"labels go from {min(labels)} to {max(labels)}, but no training image has label {min(unused)}"
            advice = f"number them 0 to {len(labels) - 1}, or name the classes: labels as text, or datasets.ClassLabel"
            raise UserError(f"{self.description}, column {column}: {found}; {advice}")
        return {number: str(number) for number in range(len(labels))}

    def _split(self, part: str, image: str, label: str, allowed: list[Any]) -> Split:
        place = self.places.get(part, f"{self.description}, {part}, row {{}} (from 0)".format)
        numbers = {name: number for number, name in enumerate(allowed)}
        labels = self._values(part, label)
        for row, name in enumerate(labels):
            if name is None:
                raise UserError(f"{place(row)}: the image has no label; give it one or remove the row")
            if name not in numbers:
                known = f"{allowed[0]} to {allowed[-1]}, as in the training set"
                raise UserError(f"{place(row)}: label {name!r} is not allowed; allowed: {known}")
        return Split(np.array([numbers[name] for name in labels], dtype=np.int64), self._images(part, image), place)

    def _values(self, part: str, column: str) -> list[Any]:
        return self.parts[part].data.column(column).to_pylist()

    def _images(self, part: str, column: str) -> Callable[[int], Encoded]:
        from datasets import Image

        try:
            cells = self.parts[part].cast_column(column, Image(decode=False)).data.column(column)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise UserError(f"{self.description}: column {column} holds no images; set image_column") from error

        def image(row: int) -> Encoded:
            stored = cells[row].as_py() or {}
            if stored.get("bytes"):
                return stored["bytes"]
            # A data set from elsewhere must not name other files of this machine.
            path = Path(os.path.normpath(stored.get("path") or "."))
            if path.is_relative_to(self.root):
                return path
            raise UserError("there is a label but no image; add it or remove the row")

        return image
