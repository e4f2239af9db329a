"""A round in Flower's own simulation beside ours: FedAvg on the same clients, images and batches."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median

from joblib import cpu_count

from benchmarks.measure import AT_LEAST, Benchmark, Rows, Watched, alternate, start, watch
from benchmarks.project import Scale, make, train
from benchmarks.rounds import ENDED, on_all_cores
from fedmpq.errors import UserError
from pipeline import command

THEIRS = "a round in Flower's simulation, FedAvg in float32"
OURS = "our FP32 in float32"
OVERHEAD = Benchmark("flower", f"{THEIRS}, less its plain steps", f"{OURS}, less the same", AT_LEAST, 2, "x")
DEFAULT = Benchmark("flower-default", THEIRS, "our FP32 in the precision that it takes here", AT_LEAST, 2, "x")
MEMORY = Benchmark("flower-memory", "peak memory of Flower's simulation", OURS, AT_LEAST, 1, "x")
ENVIRONMENT = command.ROOT / ".venv-flower"
"""Of Python, with Flower in it if that is installed."""
PROGRAM = Path(__file__).with_name("flower_app.py")


def version() -> str | None:
    """The version of Flower that is there; None: there is none."""
    found = next(ENVIRONMENT.glob("lib/*/site-packages/flwr-*.dist-info"), None)
    return found and found.stem.removeprefix("flwr-")


def measure(folder: Path, scale: Scale) -> Rows:
    """The three rows, empty where Flower is not there or a training fails."""
    try:
        yield from compared(folder, replace(scale, rounds=4))
    except UserError as error:
        yield from (benchmark.missing(str(error)) for benchmark in (OVERHEAD, DEFAULT, MEMORY))


def compared(folder: Path, scale: Scale) -> Rows:
    """The three rows, from runs of Flower, of ours in float32 and as it comes, and of plain steps."""
    flower = version()
    if not flower:
        raise UserError("Flower is not installed in .venv-flower; `make bench` does that")
    float32 = make(folder / "flower", scale, "fp32", {"training.precision": "float32"}, alike=True)
    default = make(folder / "flower-default", scale, "fp32", alike=True)
    theirs, ours, usual, plain = alternate(
        lambda: watch(start([ENVIRONMENT / "bin" / "python", PROGRAM, str(cpu_count())], float32.root)),
        lambda: watch(train(float32)),
        lambda: watch(train(default)),
        lambda: on_all_cores(scale, "float32"),
        times=2,
    )
    least = median(plain)
    note = f"Flower {flower}; same clients, batches and images; two runs each in turn, without each run's first round"
    less = ([seconds - least for seconds in round_seconds(runs)] for runs in (theirs, ours))
    yield OVERHEAD.row(*less, f"{note}; plain steps on all cores at the same time take {least:.3g} s of each")
    yield DEFAULT.row(
        round_seconds(theirs), round_seconds(usual), f"precision: auto, which is {default.precision} here"
    )
    yield MEMORY.row(*([run.peak for run in runs] for runs in (theirs, ours)), "all processes together", "MiB")


def round_seconds(runs: Sequence[Watched]) -> list[float]:
    """Times between the ends of the rounds: the first, in which workers start, does not count."""
    return [end - start for run in runs for start, end in pairwise(run.times(ENDED))]
