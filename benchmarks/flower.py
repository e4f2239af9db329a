"""A round in Flower's own simulation beside ours: FedAvg in float32 on the same clients, images and batches."""

import json
import re
import subprocess
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import AT_LEAST, Benchmark, Samples, alternate, ratio
from benchmarks.project import CLASSES, MEAN, STD, Project, Workspace
from benchmarks.rounds import Ideal
from benchmarks.watch import CommandFailed, Watched, watch
from fedmpq.engine.hardware import available_cores
from pipeline import command

ALIKE = "our FP32 in float32, same clients, batches and images"
AS_IT_COMES = "our FP32 in the precision that it takes here, same clients, batches and images"
TIME = Benchmark("flower", "a round in Flower's simulation, FedAvg in float32", ALIKE, ratio, AT_LEAST, 2, "x")
DEFAULT = Benchmark("flower-default", "the same", AS_IT_COMES, ratio, AT_LEAST, 2, "x")
MEMORY = Benchmark("flower-memory", "peak memory of Flower's simulation", ALIKE, ratio, AT_LEAST, 1, "x")
ENVIRONMENT = Path(".venv-flower")
ROUNDS = 4
PROGRAM = Path(__file__).with_name("flower_app.py")


def interpreter() -> Path:
    """Python of the environment that has Flower, whether it is there or not."""
    return command.ROOT / ENVIRONMENT / "bin" / "python"


def version() -> str | None:
    """The version of Flower that is there; None: there is none."""
    ask = [interpreter(), "-c", "from importlib.metadata import version; print(version('flwr'))"]
    try:
        return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def measure(workspace: Workspace) -> Iterator[dict[str, Any]]:
    """The three rows."""
    found = version()
    if not found:
        yield from missing(f"Flower is not installed in {ENVIRONMENT}; `make bench` does that")
        return
    project = workspace.project("flower", alike=True, rounds=ROUNDS, precision="float32")
    default = workspace.project("flower-default", alike=True, rounds=ROUNDS)
    try:
        theirs, ours, usual = alternate(
            lambda: simulate(project), *(partial(train, p) for p in (project, default)), times=2
        )
    except CommandFailed as error:
        yield from missing(f"Flower {found} did not run: {error}")
        return
    note = f"Flower {found}, two runs each in turn, without each run's first round"
    ideal = Ideal(workspace.scale, "float32")
    for _ in range(workspace.scale.repeats):
        ideal.sample()
    least = (
        f"; plain float32 steps on these images take {median(ideal.rounds):.3g} s on all cores, without any federation"
    )
    times = [Samples([s for run in runs for s in round_seconds(run)], "s") for runs in (theirs, ours, usual)]
    yield TIME.result(times[0], times[1], note + least)
    precision = default.cell("fp32").precision
    yield DEFAULT.result(times[0], times[2], f"{note}; ours with precision: auto, which is {precision} here")
    peaks = (Samples([run.peak / 2**20 for run in runs], "MiB") for runs in (theirs, ours))
    yield MEMORY.result(*peaks, "all processes together")


def missing(reason: str) -> Iterator[dict[str, Any]]:
    """The rows where there is nothing to compare with."""
    return (benchmark.missing(reason) for benchmark in (TIME, DEFAULT, MEMORY))


def train(project: Project) -> Watched:
    """Train by FP32 on the project's images and partition."""
    return watch(project.training("fp32"), project.root, project.environment())


def simulate(project: Project) -> Watched:
    """Run Flower on the project's images and partition."""
    cell = project.cell("fp32")
    keys = ("model", "batch_size", "clients", "lr", "momentum", "local_epochs", "rounds")
    settings = {key: getattr(cell.experiment, key) for key in keys}
    places = {"data": str(cell.data), "partition": str(cell.partition_file(0))}
    image = {"classes": CLASSES, "image_size": cell.setup(0).dataset.image_size, "mean": MEAN, "std": STD}
    settings |= {**places, **image, "cores": available_cores()}
    return watch([str(interpreter()), str(PROGRAM), json.dumps(settings)], project.root, project.environment())


def round_seconds(run: Watched) -> list[float]:
    """Times between the ends of the rounds: the first, in which workers start, does not count."""
    ends = [at for at, line in run.lines if re.search(r"\bround \d", line)]
    return [end - start for start, end in pairwise(ends)]
