"""Divide a training set among clients (supplement, equations 1 and 2), and hold images out.

For each label c, p ~ Dir_N(alpha), and client n gets N_c * p_n / sum_k p_k of its samples.
"""

import numpy as np
from numpy.typing import ArrayLike

from fedmpq.data.partition import Integers, Partition
from fedmpq.errors import UserError
from fedmpq.seeding import numpy_generator


def apportion(weights: ArrayLike, totals: ArrayLike) -> Integers:
    """Whole numbers in proportion to `weights` that add up to `totals`, by largest remainder.

    `weights` (..., parts) are not negative and not all 0, `totals` (...) whole. Each of the result (..., parts) is less
    than 1 away from its exact share; of equal remainders the earlier wins.
    """
    weights, totals = np.asarray(weights), np.asarray(totals, dtype=np.int64)
    exact = weights * totals[..., None] / weights.sum(axis=-1, keepdims=True)
    whole = np.floor(exact).astype(np.int64)
    left = totals - whole.sum(axis=-1)
    rank = np.argsort(np.argsort(whole - exact, axis=-1, kind="stable"), axis=-1)
    return whole + (rank < left[..., None])


def draw_partition(
    labels: Integers,
    clients: int,
    alpha: float,
    seed: int,
    *,
    min_samples: int = 0,
    max_redraws: int = 0,
    samples: Integers | None = None,
) -> Partition:
    """Divide training samples among clients, each sample to exactly one; depends on the arguments alone.

    Args:
        labels: (N,), of the whole training set.
        alpha: Dirichlet concentration, > 0.
        min_samples: a draw that leaves a client fewer is drawn again.
        max_redraws: how often, before giving up.
        samples: the samples to divide, indices into the training set; None: all.

    Raises:
        UserError: no draw gave every client `min_samples`.
    """
    samples = np.arange(len(labels)) if samples is None else np.asarray(samples)
    generator = numpy_generator(seed, "partition", float(alpha))
    sizes = np.bincount(labels[samples])
    largest = 0
    for _ in range(max_redraws + 1):
        # Beyond 1e12 all shares are equal, and the sum that normalizes them would overflow.
        shares = generator.dirichlet(np.full(clients, min(alpha, 1e12)), size=len(sizes))
        counts = apportion(shares, sizes)
        smallest = counts.sum(axis=0).min()
        if smallest >= min_samples:
            return _deal(labels, samples, counts, generator)
        largest = max(largest, smallest)
    raise UserError(
        f"alpha {alpha:g}: in {max_redraws + 1} draws none gave each of the {clients} clients at least {min_samples}"
        f" images (the smallest client had {largest} at best); lower min_samples or clients, or raise alpha or"
        " max_redraws"
    )


def _deal(labels: Integers, samples: Integers, counts: Integers, generator: np.random.Generator) -> Partition:
    """Give each client, at random, as many samples of each label as `counts` (classes, clients) says."""
    owners = np.empty(len(samples), dtype=np.int64)
    held = labels[samples]
    for label, row in enumerate(counts):
        members = np.flatnonzero(held == label)
        owners[generator.permutation(members)] = np.repeat(np.arange(len(row)), row)
    order = np.lexsort((samples, owners))
    return Partition(samples[order], np.concatenate([[0], np.cumsum(counts.sum(axis=0))]))


def typical_classes(counts: Integers, share: float = 0.9) -> float:
    """Median over clients of the number of classes that make up `share` of a client's samples.

    `counts` is (clients, classes). Left out are clients without samples, and the few stray samples beyond `share`.
    """
    counts = counts[counts.sum(axis=1) > 0]
    largest_first = np.sort(counts, axis=1)[:, ::-1]
    reached = np.cumsum(largest_first, axis=1) >= share * counts.sum(axis=1, keepdims=True)
    return float(np.median(reached.argmax(axis=1) + 1))


def stratified_subset(labels: Integers, count: int, *key: int | str) -> Integers:
    """Indices, ascending, of `count` samples in which each label has its share to within one sample."""
    generator = numpy_generator(*key)
    quotas = apportion(np.bincount(labels), count)
    chosen = [generator.permutation(np.flatnonzero(labels == c))[:quota] for c, quota in enumerate(quotas)]
    return np.sort(np.concatenate(chosen))


def training_samples(labels: Integers, train_samples: int | None, seed: int) -> Integers:
    """Indices of the training images that an experiment uses: all, or a stratified subset by the seed."""
    return _used(labels, train_samples, "train_samples", "training", seed, "subset")


def evaluation_samples(labels: Integers, test_samples: int | None) -> Integers:
    """Indices of the test images that accuracy is measured on: all, or a stratified subset, the same for all seeds."""
    return _used(labels, test_samples, "test_samples", "test", "evaluation")


def _used(labels: Integers, count: int | None, name: str, part: str, *key: int | str) -> Integers:
    if count is None:
        return np.arange(len(labels))
    if count > len(labels):
        raise UserError(f"data.{name}: {count} is not allowed; allowed: 1 to {len(labels)}, the {part} images")
    return stratified_subset(labels, count, *key)


def validation_split(labels: Integers, share: float, seed: int) -> tuple[Integers, Integers]:
    """Divide samples, stratified by `labels` (N,), into those to train on and those held out, a `share` in 0 .. 1.

    Returns:
        Indices into `labels` of the two, each ascending.

    Raises:
        UserError: one of the two would be empty.
    """
    count = round(share * len(labels))
    if not 0 < count < len(labels):
        raise UserError(f"validation: a share of {share:g} of {len(labels)} images leaves a part empty; change it")
    held_out = stratified_subset(labels, count, seed, "validation")
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out
