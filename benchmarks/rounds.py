"""Whole trainings: a round beside what its images cost at least, the start-up, and the memory."""

import multiprocessing
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median

from joblib import cpu_count

from benchmarks.core import Plain
from benchmarks.measure import AT_LEAST, AT_MOST, Benchmark, Rows, alternate, seconds, start, watch
from benchmarks.project import Scale, make, train
from fedmpq.config import Execution
from fedmpq.engine import processes
from fedmpq.engine.seed_run import SeedRun
from fedmpq.tracking import Run, Training, round_metrics

OURS = "a whole round of 10 clients with evaluation and logging, all cores"
STARTED = "start-up of pipeline.train to the end of a round of one step"
ROUND = Benchmark("round", "images x plain step time / cores", OURS, AT_LEAST, 85, "%")
LOGGING = Benchmark("logging", "MLflow and files per round", "the round", AT_MOST, 2, "%")
START = Benchmark("start", STARTED, "import torch, lightning", AT_MOST, 2, "s")
MEMORY = Benchmark("memory", "peak memory, 1,000 clients of which 10 train", "10 clients", AT_MOST, 1.1, "x")
ENDED = r"\bround \d"
"""In the line that a training prints after each round."""
PLAIN_STEPS = 6
"""Plain steps, and plain evaluations, of which the time is the median."""


def on_one_core(scale: Scale, precision: str = "auto") -> float:
    """Seconds that plain steps on the images of a round take, and plain evaluation of those to test on."""
    plain = Plain(scale, precision)
    train, test = (median(seconds(action) for _ in range(PLAIN_STEPS)) for action in (plain.step, plain.evaluate))
    return (scale.clients * scale.images * train + scale.test_images * test) / scale.batch


def on_all_cores(scale: Scale, precision: str) -> float:
    """The same divided among all cores, which work at the same time and so slow each other."""
    cores, context = cpu_count(), multiprocessing.get_context("spawn")
    with context.Pool(cores, initializer=context.Barrier(cores).wait) as pool:
        return fmean(pool.starmap(on_one_core, [(scale, precision)] * cores, chunksize=1)) / cores


def trained(folder: Path, scale: Scale, algorithm: str) -> list[tuple[float, ...]]:
    """Run what `pipeline.train` runs, with plain steps after each round; the first does not count.

    Returns:
        Seconds of the rounds, those of them outside the federation's own work, and the least that a round takes. A
        checkpoint is written when the next round begins, and counted there.
    """
    processes.start_importing()  # As `pipeline.train` does.
    cell, found = make(folder / f"rounds-{algorithm}", scale, algorithm), []
    training = Training(cell.name, algorithm, cell.alpha_label, 0, cell.flat_parameters)
    with Run(cell.root, training) as tracked:
        started = time.perf_counter()
        for row, bits in SeedRun(cell, 0).rounds(Execution()):
            tracked.log_round(round_metrics(row, bits), row["round"])
            total = time.perf_counter() - started
            found.append((total, total - row["seconds"], on_one_core(scale) / cpu_count()))
            started = time.perf_counter()
    return list(zip(*found[1:], strict=True))


def rounds(folder: Path, scale: Scale) -> Rows:
    """The rows on a round of FP32, whose step is the plain one; the note has FedMPQ's."""
    (own, _, own_least), (total, logging, least) = (trained(folder, scale, name) for name in ("fedmpq", "fp32"))
    note = (
        f"FP32, {scale.clients} x {scale.images} training images, once, divided at alpha 0.5; {scale.test_images} test"
        " images, counted at the time of a plain forward pass in float32, in which they are evaluated. FedMPQ with its"
        f" dearer step: {ROUND.row(own_least, own, '')['value']:.0f} %"
    )
    yield ROUND.row(least, total, note)
    yield LOGGING.row(logging, total, "all of a round but the federation's own work")


def start_up(folder: Path, scale: Scale) -> Rows:
    """The row on the start-up."""
    one_step = replace(scale, clients=1, images=scale.batch, test_images=scale.batch, rounds=1)
    cell = make(folder / "start", one_step, "fedmpq")
    imports = [sys.executable, "-c", "import torch, lightning; print('imported', flush=True)"]
    found = alternate(
        lambda: watch(train(cell)).times(ENDED)[0],
        lambda: watch(start(imports, cell.root)).times("imported")[0],
        times=scale.repeats,
    )
    yield START.row(*found, "FedMPQ, MLflow's database is there")


def memory(folder: Path, scale: Scale) -> Rows:
    """The row on memory: clients hold equally many images, so the data set grows with them."""
    few = replace(scale, images=scale.batch, rounds=2)
    many = replace(few, clients=100 * few.clients)
    cells = (
        make(folder / "many-clients", many, "fedmpq", {"participation.share": 0.01}, alike=True),
        make(folder / "few-clients", few, "fedmpq", alike=True),
    )
    found = alternate(*(lambda cell=cell: watch(train(cell)).peak for cell in cells), times=min(3, scale.repeats))
    yield MEMORY.row(*found, f"all processes together; each client holds {scale.batch} images, 2 rounds", "MiB")
