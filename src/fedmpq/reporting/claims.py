"""What the paper claims: each claim a function, whose docstring says it, from results to what was found."""

import math
from collections.abc import Callable, Iterable
from statistics import fmean

import numpy as np
import pandas as pd

from fedmpq.data.dirichlet import typical_classes
from fedmpq.engine.results import Row
from fedmpq.reporting.results import Cell, Results, rounded, shown

REACHED = 0.9  # of a final accuracy, at which a curve counts as arrived
HELD_SHARE = 0.9  # of a client's images, made up by the classes that it holds; stray images do not count
ALMOST_ALL = 0.8  # of the classes: were all equal, 90 % of the images would be 90 % of them
EARLY = 0.2  # of the rounds
CLOSE = 2  # points of accuracy within which two algorithms count as close
GAIN = 5  # points, on average over the alphas, from which a gain counts as "about 10"
CLOSE_ALPHAS = (0.5, 1.0)
NOISE = 2  # standard errors within which a difference counts as noise
PAPER_BUDGETS = (2, 4, 6)
PAPER_GAIN = {"cifar10": 9.1, "cifar100": 8.2, "tiny-imagenet": 2.9}
PAPER_ROUNDS = 50
PAPER_CLASSES = 10  # of CIFAR-10, of which the supplement shows who holds which
VERDICTS = {True: "holds", False: "does not hold", None: "not run"}


class NotRun(Exception):
    """What a claim needs is not there; says what, and what to run for it."""


Finding = tuple[bool, str, str, Row]  # whether a claim holds, what was found, the same in short, and the numbers


def evaluate(results: Results) -> list[Row]:
    """Check every claim: a dictionary each of name, claim, source, found, short, verdict and numbers."""
    entries = []
    for check, source in CLAIMS.items():
        try:
            trained = check is not classes_per_client
            holds, found, short, numbers = check(results)
            alone = _single_seed(results, numbers) if trained else None
            found += _setting(results, trained, alone)
            short += f", 1 seed{alone}" * (alone is not None and "seed" not in short)
        except NotRun as missing:
            holds, found, short, numbers = None, str(missing), "", {}
        text = " ".join(check.__doc__.split()).removesuffix(".")
        entry = {"name": check.__name__, "claim": text, "source": source, "found": found, "short": short}
        entries.append(entry | {"verdict": VERDICTS[holds], "numbers": numbers})
    return entries


def classes_per_client(results: Results) -> Finding:
    """At alpha 0.1 a client typically holds 2 or 3 of 10 classes, at alpha 5 almost all."""
    if not {0.1, 5} <= results.partitions.keys():
        raise NotRun("Needs the partitions at alpha 0.1 and 5: run `dvc repro`.")
    tables = [results.partitions[alpha].filter(like="label_").to_numpy() for alpha in (0.1, 5)]
    if (classes := tables[1].shape[1]) != PAPER_CLASSES:
        raise NotRun(f"Is said of CIFAR-10, here are {classes} classes: add cifar10 to `experiments`, run `dvc repro`.")
    few, many = (typical_classes(images, HELD_SHARE) for images in tables)
    present = [float(np.median((images > 0).sum(1))) for images in tables]
    found = (
        f"Median over clients and seeds: {few:g} of {classes} classes at alpha 0.1 and {many:g} at alpha 5, counting"
        f" the largest classes that make up {100 * HELD_SHARE:g} % of a client's images. With every class of which a"
        f" client has a single image it is {present[0]:g} and {present[1]:g}. Almost all: at least"
        f" {100 * ALMOST_ALL:g} % of the classes."
    )
    numbers = {"alpha 0.1": few, "alpha 5": many, "present at 0.1": present[0], "present at 5": present[1]}
    short = f"{few:g} and {many:g} of {classes}"
    return 2 <= few <= 3 and many >= ALMOST_ALL * classes, found, short, numbers | {"classes": classes}


def first_and_last_layer(results: Results) -> Finding:
    """First and last layer end at 8 bits whatever the budget (2, 4, 6)."""
    numbers = {}
    for alpha in _needed(results, "fedmpq"):
        bits = results.cells["fedmpq", alpha].last_bits
        fewest = bits[bits["budget"].isin(PAPER_BUDGETS)].groupby(["budget", "layer"], sort=False)["bits_given"].min()
        for budget, layers in fewest.groupby("budget"):
            numbers[f"alpha {alpha:g}, budget {budget:g}"] = layers.iloc[[0, -1]].tolist()
    if not numbers:
        raise NotRun("Needs clients of budget 2, 4 or 6.")
    others = {where: f"{bits[0]} and {bits[1]}" for where, bits in numbers.items() if bits != [8, 8]}
    short = f"{len(numbers) - len(others)} of {len(numbers)} pairs of alpha and budget"
    return not others, f"Both have 8 bits in {short}{': else ' if others else ''}{_joined(others)}.", short, numbers


def low_bits_before_the_end(results: Results) -> Finding:
    """Low bit-widths gather just before the fully connected layer."""
    numbers, found = {}, {}
    for alpha in _needed(results, "fedmpq"):
        bits = results.cells["fedmpq", alpha].client_bits(4).set_index("layer")["bits_given"]
        if len(bits) > 1:
            late = bits.index[math.floor((len(bits) - 1) * 2 / 3) : -1].tolist()
            lowest = bits.index[bits == bits.min()].tolist()
            where = f"alpha {alpha:g}"
            numbers[where] = {"bits": int(bits.min()), "layers": lowest, "last third": late}
            many = f"{len(lowest)} layers from {lowest[0]} to {lowest[-1]}"
            found[where] = f"{bits.min()} in {many if len(lowest) > 2 else ' and '.join(lowest)}"
            rule = f"Holds if all are in the last third of the layers before the last one, {late[0]} to {late[-1]}."
    if not numbers:
        raise NotRun("Needs a client of budget 4, and several layers.")
    late = [set(entry["layers"]) <= set(entry["last third"]) for entry in numbers.values()]
    short = f"at {sum(late)} of {len(late)} alphas"
    return all(late), f"Fewest bits of a client of budget 4: {_joined(found)}. {rule}", short, numbers


def aqfl_starts_fast(results: Results) -> Finding:
    """AQFL converges fast: early on it is ahead of FedMPQ."""
    numbers, found, gaps = {}, [], {}
    for alpha in _needed(results, "aqfl", "fedmpq"):
        where, cells = f"alpha {alpha:g}", {name: results.cells[name, alpha] for name in ("aqfl", "fedmpq")}
        by_seed = {name: cell.early(EARLY) for name, cell in cells.items()}
        early = {name: round(accuracies.mean(), 2) for name, accuracies in by_seed.items()}
        own = {name: _arrival(cell, cell) for name, cell in cells.items()}
        gaps[where] = _gap((by_seed["aqfl"] - by_seed["fedmpq"]).dropna())
        numbers[where] = {"early accuracy": early, "arrival": own}
        found.append(
            f"AQFL {early['aqfl']:.1f} %, FedMPQ {early['fedmpq']:.1f} %, {_points(**gaps[where])} at {where}"
            f" (90 % of its own final accuracy: {_round(own['aqfl'])} and {_round(own['fedmpq'])})"
        )
    ahead = [entry["early accuracy"]["aqfl"] > entry["early accuracy"]["fedmpq"] for entry in numbers.values()]
    text = f"Mean accuracy over the first {100 * EARLY:g} % of the rounds: {'; '.join(found)}."
    return all(ahead), text, _in_short(gaps), numbers


def fedmpq_ends_above_aqfl(results: Results) -> Finding:
    """AQFL stops low: FedMPQ ends above it (by up to 9.1 points on CIFAR-10, 8.2 on CIFAR-100, 2.9 on
    Tiny-ImageNet).
    """
    paper = PAPER_GAIN.get(results.settings.data.source)
    beside = f" The paper: up to +{paper} points on this data set." if paper else ""
    points, found, short, numbers = compare(results, "fedmpq", "aqfl")
    return min(points) > 0, f"{found}.{beside}", short, numbers | {"paper": paper}


def fedmpq_ends_close_to_fpq8(results: Results) -> Finding:
    """FedMPQ ends close to FPQ8 at alpha 0.5 and 1.0."""
    points, found, short, numbers = compare(results, "fedmpq", "fpq8", *CLOSE_ALPHAS)
    found += f"; close is within {CLOSE} points.{_lacking(results)}"
    return max(map(abs, points)) <= CLOSE, found, short, numbers


def fedmpq_is_later_than_fpq8(results: Results) -> Finding:
    """FedMPQ gets there later than FPQ8 (alpha 0.5 and 1.0)."""
    numbers, delays = _delays(results, _needed(results, "fedmpq", "fpq8", among=CLOSE_ALPHAS))
    found = {where: f"FedMPQ {_round(own['fedmpq'])}, FPQ8 {_round(own['fpq8'])}" for where, own in numbers.items()}
    text = f"90 % of FPQ8's final accuracy is reached by {_joined(found)}.{_lacking(results)}"
    later = {where.removeprefix("alpha "): f"{delay:+d} rounds" for where, delay in zip(numbers, delays, strict=True)}
    return min(delays) > 0, text, _joined(later), numbers


def trails_less_on_cifar10(results: Results) -> Finding:
    """FedMPQ trails FPQ8 in speed by less on CIFAR-10 than on CIFAR-100."""
    both = [side.common_alphas("fedmpq", "fpq8") for side in (results, results.compared) if side]
    alphas = [alpha for alpha in both[0] if alpha in both[-1]]
    if len(both) < 2 or not alphas:
        needed = "FedMPQ and FPQ8 at the same alpha on CIFAR-10 and CIFAR-100"
        raise NotRun(f"Needs {needed}: add both to `experiments` and run `dvc repro`.")
    gaps = {side.settings.data.source: fmean(_delays(side, alphas)[1]) for side in (results, results.compared)}
    alone = any(len(side.seeds_at[alpha]) == 1 for side in (results, results.compared) for alpha in alphas)
    found = (
        f"To 90 % of FPQ8's final accuracy FedMPQ needs, on average over alpha {_listed(alphas, 'and')},"
        f" {gaps['cifar10']:.1f} rounds more on CIFAR-10 and {gaps['cifar100']:.1f} more on CIFAR-100"
        f"{', one seed at some' * alone}."
    )
    short = f"{gaps['cifar10']:+.1f} and {gaps['cifar100']:+.1f} rounds{', 1 seed' * alone}"
    return gaps["cifar10"] < gaps["cifar100"], found, short, gaps


def lags_on_tiny_imagenet(results: Results) -> Finding:
    """On Tiny-ImageNet FedMPQ still lags FPQ8 after 50 rounds."""
    if results.settings.data.source != "tiny-imagenet":
        raise NotRun("Stands in the report of tiny-imagenet: add it to `experiments`, run `dvc repro`.")
    points, found, short, numbers = compare(results, "fedmpq", "fpq8")
    return max(points) < 0, f"{found}.", short, numbers


def growing_gains(results: Results) -> Finding:
    """Pruning-growing gains about 10 points over pruning alone."""
    points, found, short, numbers = compare(results, "fedmpq", "pruning")
    mean = fmean(points)
    found = f"{found}; on average {mean:+.1f}, about 10 is at least {GAIN}."
    return mean >= GAIN, found, short, numbers | {"mean": round(mean, 2)}


CLAIMS: dict[Callable[[Results], Finding], str] = {
    classes_per_client: "supplement 1",
    first_and_last_layer: "supplement 2",
    low_bits_before_the_end: "supplement 2",
    aqfl_starts_fast: "supplement 4",
    fedmpq_ends_above_aqfl: "supplement 4, paper",
    fedmpq_ends_close_to_fpq8: "supplement 4",
    fedmpq_is_later_than_fpq8: "supplement 4",
    trails_less_on_cifar10: "supplement 4",
    lags_on_tiny_imagenet: "supplement 4",
    growing_gains: "paper",
}
"""The checks, and where the paper makes the claim that a check's docstring says."""


def _needed(results: Results, *algorithms: str, among: tuple[float, ...] = ()) -> list[float]:
    """The alphas (`among` these, if any are named) at which all of `algorithms` have results, one at least."""
    alphas = [alpha for alpha in results.common_alphas(*algorithms) if not among or alpha in among]
    if not alphas:
        where = f" at alpha {_listed(among)}" if among else ""
        additions = [f"`{name}` to `algorithms`" for name in algorithms if name not in results.algorithms]
        if among and not set(among) & set(results.alphas):
            additions.append(f"{_listed(among)} to `alphas`")
        todo = f"add {' and '.join(additions)} and " if additions else ""
        raise NotRun(f"Needs {' and '.join(map(shown, algorithms))}{where}: {todo}run `dvc repro`.")
    return alphas


def compare(
    results: Results, first: str, second: str, *among: float, devices: bool = False
) -> tuple[list[float], str, str, Row]:
    """Points by which `first` ends above `second` at each alpha, in words, in short, and as numbers by alpha."""
    numbers = {}
    for alpha in _needed(results, first, second, among=among):
        points = results.cells[first, alpha].minus(results.cells[second, alpha], devices)
        if len(points):
            numbers[f"alpha {alpha:g}"] = _gap(points)
    if not numbers:
        raise NotRun(f"Needs {shown(first)} and {shown(second)} with the same seeds: run `dvc repro`.")
    text = _joined({where: _points(**gap) for where, gap in numbers.items()})
    differences = [gap["difference"] for gap in numbers.values()]
    return differences, f"{shown(first)} minus {shown(second)}: {text}", _in_short(numbers), numbers


def _gap(points: pd.Series) -> Row:
    """The mean of differences by seed, and its standard error, None for one seed."""
    return {"difference": rounded(points.mean()), "error": rounded(points.sem()), "seeds": len(points)}


def _points(difference: float, error: float | None, seeds: int) -> str:
    if seeds == 1:
        return f"{difference:+.1f} points"
    noise = abs(difference) <= NOISE * error
    return f"{difference:+.1f} ± {error:.1f} points{', within seed noise' if noise else ''}"


def _in_short(gaps: Row) -> str:
    spread = {where: f"± {gap['error']:.1f}" if gap["seeds"] > 1 else "(1 seed)" for where, gap in gaps.items()}
    return _joined(
        {where.removeprefix("alpha "): f"{gap['difference']:+.1f} {spread[where]}" for where, gap in gaps.items()}
    )


def _arrival(cell: Cell, of: Cell) -> int | None:
    """First round whose accuracy, mean over the seeds, is REACHED of the final one `of` a cell; None if none is."""
    curve = cell.curve("test_accuracy")["mean"]
    reached = curve.index[curve >= REACHED * of.run["final_accuracy"]["mean"]]
    return int(reached[0]) if len(reached) else None


def _delays(results: Results, alphas: list[float]) -> tuple[Row, list[int]]:
    """Rounds in which FedMPQ and FPQ8 reach 90 % of FPQ8's final accuracy, by alpha, and how many FedMPQ is later."""
    arrivals, delays = {}, []
    for alpha in alphas:
        cells = {name: results.cells[name, alpha] for name in ("fedmpq", "fpq8")}
        own = {name: _arrival(cell, of=cells["fpq8"]) for name, cell in cells.items()}
        # One that never arrives counts as arriving in the round after the last.
        late, early = (reached or cells["fedmpq"].run["rounds"] + 1 for reached in own.values())
        arrivals[f"alpha {alpha:g}"] = own
        delays.append(late - early)
    return arrivals, delays


def _joined(found: Row) -> str:
    return "; ".join(f"{value} at {where}" for where, value in found.items())


def _listed(values: Iterable[float], word: str = "or") -> str:
    return f" {word} ".join(f"{value:g}" for value in values)


def _round(number: int | None) -> str:
    return "in no round" if number is None else f"in round {number}"


def _lacking(results: Results) -> str:
    absent = [alpha for alpha in CLOSE_ALPHAS if alpha not in results.common_alphas("fedmpq", "fpq8")]
    return f" Not run at alpha {_listed(absent)}." if absent else ""


def _setting(results: Results, trained: bool, alone: str | None) -> str:
    """How the run differs from the paper's, and whether its seeds allow a judgement (`alone`: see `_single_seed`)."""
    notes = []
    if results.settings.data.source not in PAPER_GAIN:
        notes.append(f"another data set than the paper's ({results.settings.data.source})")
    if trained and results.lengths != [PAPER_ROUNDS]:
        notes.append(f"{results.duration}, the paper's {PAPER_ROUNDS}")
    if alone is not None:
        notes.append(f"one seed{alone}: under 2 points is noise")
    return f" Note: {'; '.join(notes)}." if notes else ""


def _single_seed(results: Results, numbers: Row) -> str | None:
    """Where `numbers`, by alpha, are of one seed: nothing more to say if they all are; None if none is."""
    named = {key.partition(",")[0] for key in numbers}
    seeds = {alpha: seeds for alpha, seeds in results.seeds_at.items() if f"alpha {alpha:g}" in named}
    alone = [alpha for alpha in seeds if len(seeds[alpha]) == 1]
    if not alone:
        return None
    return "" if alone == [*seeds] else f" at alpha {_listed(alone, 'and')}"
