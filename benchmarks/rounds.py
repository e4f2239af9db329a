"""Whole trainings: a round beside the steps that it has at least, the start-up, the memory, and how both grow."""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.core import plain_loop
from benchmarks.measure import AT_LEAST, AT_MOST, Benchmark, Rows, alternate, lengths, start, watch
from benchmarks.project import Scale, make, project, trained
from fedmpq.config import load_parameters
from fedmpq.engine.cell import Cell
from fedmpq.engine.hardware import available_cores
from pipeline import command

LEAST, WHOLE = "plain steps and evaluation, on one core, / cores", "with evaluation and logging, all cores"
ROUNDS = {
    "fp32": Benchmark("round", LEAST, f"a whole round of FP32, {WHOLE}", AT_LEAST, 85, "%"),
    "fedmpq": Benchmark("round-fedmpq", LEAST, f"a whole round of FedMPQ, {WHOLE}", AT_LEAST, 85, "%"),
}
LOGGING = Benchmark("logging", "MLflow and files per round", "the round of FedMPQ", AT_MOST, 2, "%")
LOOP = "the same steps in a plain loop, a process a core"
DIGITS = {
    "fp32": Benchmark("digits", LOOP, "a round of `digits` by FP32", AT_LEAST, 60, "%"),
    "fedmpq": Benchmark("digits-fedmpq", LOOP, "a round of `digits` by FedMPQ", AT_LEAST, 60, "%"),
}
STARTED = "start-up of pipeline.train to the end of a round of one step"
START = Benchmark("start", STARTED, "import torch, lightning", AT_MOST, 2, "s")
MEMORY = Benchmark("memory", "peak memory, 1,000 clients of which 10 train", "10 clients", AT_MOST, 1.1, "x")
MOST, FEWER = "10,000 clients of which 100 train", "1,000 of which 100 train"
GROWTH = (
    Benchmark("growth-time", f"a round of {MOST}", FEWER, AT_MOST, 1.1, "x"),
    Benchmark("growth-memory", f"peak memory, {MOST}", FEWER, AT_MOST, 1.1, "x"),
    Benchmark("growth-rounds", f"rounds 18 to 20 of {MOST}", "rounds 2 to 4", AT_MOST, 1.1, "x"),
)
TINY = {"network": "resnet8", "image_size": 8, "batch": 8, "images": 8, "test_images": 100}
"""Clients that compute as little as can be."""


def rounds(folder: Path, scale: Scale) -> Rows:
    """Rounds of FP32, whose step is the plain one, and of FedMPQ."""
    cells = [make(folder / benchmark.name, scale, algorithm) for algorithm, benchmark in ROUNDS.items()]
    clients, cores = [scale.images] * scale.clients, available_cores()
    least, *runs = _beside(lambda: plain_loop(scale, "auto", clients, cores=1) / cores, cells)
    images = f"{scale.clients} x {scale.images} images, once, divided at alpha 0.5"
    for benchmark, found in zip(ROUNDS.values(), runs, strict=True):
        yield benchmark.row(least, lengths(*found), f"{images}; {scale.test_images} test images, in float32")
    (table,) = cells[-1].root.glob("results/**/rounds.csv")
    whole, own = lengths(runs[-1][-1]), pd.read_csv(table)["seconds"][1:]
    yield LOGGING.row(np.subtract(whole, own).tolist(), whole, "all of a round but the federation's own work")


def digits(folder: Path, scale: Scale) -> Rows:
    """Rounds of `digits` as params.yaml has it."""
    changes = {"partition.seeds": [0], "training.rounds": scale.rounds}
    experiment = load_parameters(command.ROOT / "params.yaml").varied("digits", changes)
    cells = [project(folder / benchmark.name, experiment, algorithm) for algorithm, benchmark in DIGITS.items()]
    setup, model = cells[0].setup(0), experiment.model
    same = Scale(model.network, setup.dataset.image_size, experiment.training.batch_size, test_images=0)
    clients = np.diff(setup.partition.offsets).tolist()
    least, *runs = _beside(lambda: plain_loop(same, "auto", clients, available_cores()), cells)
    for benchmark, found in zip(DIGITS.values(), runs, strict=True):
        yield benchmark.row(
            least, lengths(*found), f"{len(setup.partition.indices):,} images; its evaluation not counted"
        )


def _beside(least: Callable[[], float], cells: list[Cell]) -> list[tuple[Any, ...]]:
    return alternate(least, *(partial(trained, cell) for cell in cells), times=2)


def start_up(folder: Path, scale: Scale) -> Rows:
    """The start-up."""
    one_step = replace(scale, clients=1, images=scale.batch, test_images=scale.batch, rounds=1)
    cell = make(folder / "start", one_step, "fedmpq")
    imports = [sys.executable, "-c", "import torch, lightning; print('imported', flush=True)"]
    found = alternate(
        lambda: trained(cell).times[0],
        lambda: watch(start(imports, cell.root), "imported").times[0],
        times=scale.repeats,
    )
    yield START.row(*found, "FedMPQ, MLflow's database is there")


def memory(folder: Path, scale: Scale) -> Rows:
    """The memory: clients hold equally many images, so the data set grows with them."""
    few = replace(scale, images=scale.batch)
    cells = [_crowd(folder, few, clients, asked=few.clients) for clients in (100 * few.clients, few.clients)]
    found = alternate(
        *(lambda cell=cell: trained(cell, weigh=True).peak for cell in cells), times=min(3, scale.repeats)
    )
    yield MEMORY.row(*found, f"all processes together; each client holds {scale.batch} images", "MiB")


def growth(folder: Path, scale: Scale) -> Rows:
    """Time and memory over the number of clients; the first row has what the figure shows."""
    tiny, found = replace(scale, **TINY), {}
    for clients in scale.crowds:
        many = replace(tiny, rounds=20) if clients == scale.crowds[-1] else tiny
        found[clients] = trained(_crowd(folder, many, clients, asked=min(100, clients // 10)), weigh=True)
    points = [{"clients": n, "seconds": median(lengths(run)), "MiB": run.peak} for n, run in found.items()]
    fewer, most = (found[clients] for clients in scale.crowds[-2:])
    note = "FedMPQ, ResNet-8, 8 x 8 pixels, a batch of 8 images a client; from the end of a round to the next"
    yield GROWTH[0].row(lengths(most), lengths(fewer), note) | {"points": points}
    yield GROWTH[1].row([most.peak], [fewer.peak], "all processes together, at the ends of rounds", "MiB")
    yield GROWTH[2].row(lengths(most)[-3:], lengths(most)[:3], "history and checkpoint included")


def _crowd(folder: Path, scale: Scale, clients: int, asked: int) -> Cell:
    name, many = f"{scale.network}-{clients}", replace(scale, clients=clients)
    return make(folder / name, many, "fedmpq", {"participation.share": asked / clients}, alike=True)
