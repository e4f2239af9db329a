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

    Args:
        weights: (..., parts), not negative, not all 0.
        totals: (...), whole numbers.

    Returns:
        (..., parts), each less than 1 away from its exact share; of equal remainders the earlier wins.
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
    """Divide training samples among clients, each sample to exactly one.

    Args:
        labels: (N,), of the whole training set.
        clients: number of clients.
        alpha: Dirichlet concentration, > 0.
        seed: the result depends on it, on `alpha` and on the arguments here, on nothing else.
        min_samples: a draw that leaves a client fewer is drawn again.
        max_redraws: how often, before giving up.
        samples: the samples to divide, indices into the training set; None: all.

    Raises:
        UserError: no draw gave every client `min_samples`.
    """
    samples = np.arange(len(labels)) if samples is None else np.asarray(samples)
    if clients * min_samples > len(samples):
        raise UserError(
            f"alpha {alpha:g}: {clients} clients with at least {min_samples} images each need"
            f" {clients * min_samples}, there are {len(samples)}; lower min_samples or clients"
        )
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

    Args:
        counts: (clients, classes); clients without samples are left out.
        share: the rest, a few stray samples, does not count as holding a class.
    """
    counts = counts[counts.sum(axis=1) > 0]
    largest_first = np.sort(counts, axis=1)[:, ::-1]
    reached = np.cumsum(largest_first, axis=1) >= share * counts.sum(axis=1, keepdims=True)
    return float(np.median(reached.argmax(axis=1) + 1))


def stratified_subset(labels: Integers, count: int, *key: int | str) -> Integers:
    """Indices, ascending, of `count` samples in which each label has its share to within one sample.

    Raises:
        UserError: there are fewer samples.
    """
    if count > len(labels):
        raise UserError(f"train_samples: {count} is not allowed; allowed: 1 to {len(labels)}, the training images")
    generator = numpy_generator(*key)
    quotas = apportion(np.bincount(labels), count)
    chosen = [generator.permutation(np.flatnonzero(labels == c))[:quota] for c, quota in enumerate(quotas)]
    return np.sort(np.concatenate(chosen))


def training_samples(labels: Integers, train_samples: int | None, seed: int) -> Integers:
    """Indices of the training images that an experiment uses: all, or a stratified subset by the seed."""
    return np.arange(len(labels)) if train_samples is None else stratified_subset(labels, train_samples, seed, "subset")


def validation_split(labels: Integers, share: float, seed: int) -> tuple[Integers, Integers]:
    """Divide samples, stratified, into those to train on and those to measure on while tuning.

    Args:
        labels: (N,).
        share: of the samples held out, 0 < share < 1.
        seed: the split depends on it.

    Returns:
        Indices into `labels` of the training part and of the held-out part, each ascending.

    Raises:
        UserError: one of the two would be empty.
    """
    count = round(share * len(labels))
    if not 0 < count < len(labels):
        raise UserError(f"validation: a share of {share:g} of {len(labels)} images leaves a part empty; change it")
    held_out = stratified_subset(labels, count, seed, "validation")
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out
