"""A round in Flower's own simulation beside ours: FedAvg on the same clients, images and batches."""

from dataclasses import replace
from pathlib import Path
from statistics import median

from joblib import cpu_count

from benchmarks.core import plain_loop
from benchmarks.measure import AT_LEAST, Benchmark, Rows, Watched, alternate, lengths, start, watch
from benchmarks.project import Scale, make, train
from fedmpq.engine.cell import Cell
from fedmpq.errors import UserError
from pipeline import command

THEIRS, OURS = "a round in Flower's simulation, FedAvg in float32", "our FP32 in float32"
OVERHEAD = Benchmark("flower", f"{THEIRS}, less its plain steps", f"{OURS}, less the same", AT_LEAST, 2, "x")
DEFAULT = Benchmark("flower-default", THEIRS, "our FP32 in the precision that it takes here", AT_LEAST, 2, "x")
MEMORY = Benchmark("flower-memory", "peak memory of Flower's simulation", OURS, AT_LEAST, 1, "x")
SMALL = Benchmark("flower-small", "a client of one batch of 32, 100 in a round, in Flower", OURS, AT_LEAST, 3, "x")
ENVIRONMENT = command.ROOT / ".venv-flower"
"""Of Python, with Flower in it if that is installed."""
FLOAT32 = {"training.precision": "float32"}


def version() -> str | None:
    """The version of Flower that is there; None: there is none."""
    found = next(ENVIRONMENT.glob("lib/*/site-packages/flwr-*.dist-info"), None)
    return found and found.stem.removeprefix("flwr-")


def _installed() -> str:
    if not version():
        raise UserError("Flower is not installed in .venv-flower; `make bench` does that")
    return f"Flower {version()}"


def compared(folder: Path, scale: Scale) -> Rows:
    """Flower and ours, in float32 and as it comes."""
    note = f"{_installed()}; same clients, batches, images; two runs each in turn, without each run's first round"
    scale, cores = replace(scale, rounds=3), cpu_count()
    float32, default = (make(folder / f"flower-{n}", scale, "fp32", FLOAT32 if n else {}, alike=True) for n in (1, 0))
    theirs, ours, usual, plain = alternate(
        lambda: _simulated(float32, cores),
        lambda: watch(train(float32), weigh=True),
        lambda: watch(train(default)),
        lambda: plain_loop(scale, "float32", [scale.images] * scale.clients, scale.test_images, cores),
        times=2,
    )
    least = median(plain)
    less = ([seconds - least for seconds in lengths(*runs)] for runs in (theirs, ours))
    yield OVERHEAD.row(*less, f"{note}; plain steps on all cores at the same time take {least:.3g} s of each")
    yield DEFAULT.row(lengths(*theirs), lengths(*usual), f"precision: auto, which is {default.precision} here")
    yield MEMORY.row(*([run.peak for run in runs] for runs in (theirs, ours)), "all processes together", "MiB")


def small(folder: Path, scale: Scale) -> Rows:
    """Small models and small clients, with the number of Flower's actors that suits it best."""
    flower = _installed()
    tiny = replace(scale, network="resnet8", image_size=16, batch=32, images=32, clients=10 * scale.clients)
    cell, cores = make(folder / "flower-small", tiny, "fp32", FLOAT32, alike=True), cpu_count()
    plain = plain_loop(tiny, "float32", [tiny.images] * tiny.clients, 0, cores)
    theirs = [lengths(_simulated(cell, actors)) for actors in (1, cores, 2 * cores)]
    sides = min(theirs, key=median), lengths(watch(train(cell)))
    each = [[seconds / tiny.clients for seconds in rounds] for rounds in sides]
    beyond = [1000 * cores * (median(times) - plain / tiny.clients) for times in each]
    note = f"ResNet-8, 16 x 16 pixels; {flower}, best of 1, {cores}, {2 * cores} actors; beyond its step a client"
    yield SMALL.row(*each, f"{note} costs {beyond[0]:.1f} ms of a core in Flower, {beyond[1]:.1f} ms here")


def _simulated(cell: Cell, actors: int) -> Watched:
    program = [ENVIRONMENT / "bin" / "python", Path(__file__).with_name("flower_app.py"), str(actors)]
    return watch(start([*program, cell.partition_file(0)], cell.root), weigh=True)
