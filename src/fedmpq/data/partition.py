"""Which client holds which images."""

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from fedmpq.errors import UserError
from fedmpq.files import replacing

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Partition:
    """Which client holds which samples; no sample is held twice."""

    indices: Integers
    """(samples,), indices into the training set, client after client, ascending within a client."""
    offsets: Integers
    """(clients + 1,), where in `indices` each client begins, and the end."""

    @property
    def clients(self) -> int:
        """Number of clients."""
        return len(self.offsets) - 1

    def client(self, number: int) -> Integers:
        """Indices into the training set of what client `number` (from 0) holds, ascending."""
        return self.indices[self.offsets[number] : self.offsets[number + 1]]

    def counts(self, labels: Integers, classes: int) -> Integers:
        """(clients, classes), how many samples of each label a client holds; `labels` are of the whole training set."""
        return np.stack([np.bincount(labels[self.client(n)], minlength=classes) for n in range(self.clients)])

    def save(self, path: Path) -> None:
        """Write to `path` (.npz), the same bytes for the same partition."""
        # Uncompressed: what a compressor makes of it differs between versions of zlib.
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, indices=self.indices, offsets=self.offsets)

    @classmethod
    def load(cls, path: Path, samples: int) -> "Partition":
        """What `save` wrote; UserError if it is missing, damaged, or not of a training set of so many `samples`."""
        try:
            with np.load(path) as file:
                partition = cls(file["indices"], file["offsets"])
            partition._check(samples)
        except FileNotFoundError as error:
            raise UserError(f"{path} is missing; make it with: dvc repro") from error
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            raise UserError(f"{path} is damaged ({error}); delete it and run: dvc repro") from error
        return partition

    def _check(self, samples: int) -> None:
        indices, offsets = self.indices, self.offsets
        if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != len(indices) or (np.diff(offsets) < 0).any():
            raise ValueError("the offsets do not divide the indices")
        if len(np.intersect1d(indices, np.arange(samples))) != len(indices):
            raise ValueError(f"the indices are not different ones of {samples} training images")
