"""Random generators keyed by what they are for.

No draw depends on how many draws came before it elsewhere, so the order of clients, the number of
processes and a resumed run never change a result.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def _entropy(key: tuple[int | str, ...]) -> int:
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "little")


def numpy_generator(*key: int | str) -> np.random.Generator:
    """A generator that depends on `key` alone, e.g. `(seed, "partition", alpha)`."""
    return np.random.default_rng(_entropy(key))


def torch_generator(*key: int | str) -> torch.Generator:
    """A CPU generator that depends on `key` alone, e.g. `(seed, "batches", round, client)`."""
    return torch.Generator().manual_seed(_entropy(key) >> 1)


@contextmanager
def forked_rng(*key: int | str) -> Iterator[None]:
    """Seed torch's global generators by `key` inside the block and restore them after it.

    For code that cannot be handed a generator: layers draw their initial weights, and dropout its
    masks, from the global state.
    """
    with torch.random.fork_rng():
        torch.manual_seed(_entropy(key) >> 1)
        yield
