"""A round in Flower's own simulation beside ours: FedAvg on the same clients, images and batches."""

from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.core import plain_loop
from benchmarks.measure import AT_LEAST, Benchmark, Rows, Watched, alternate, lengths, start, watch
from benchmarks.project import Scale, make, trained
from fedmpq.engine.cell import Cell
from fedmpq.engine.hardware import available_cores
from fedmpq.errors import UserError
from pipeline import command

THEIRS, OURS = "a round in Flower's simulation, FedAvg in float32", "our FP32 in float32"
ROWS = (
    Benchmark("flower", f"{THEIRS}, less its plain steps", f"{OURS}, less the same", AT_LEAST, 2, "x"),
    Benchmark("flower-default", THEIRS, "our FP32 in the precision that it takes here", AT_LEAST, 2, "x"),
    Benchmark("flower-memory", "peak memory of Flower's simulation", OURS, AT_LEAST, 1, "x"),
)
SMALL = (Benchmark("flower-small", "Flower, a client of one batch of 32, 100 in a round", OURS, AT_LEAST, 3, "x"),)
ENVIRONMENT = command.ROOT / ".venv-flower"
"""Of Python, with Flower in it if that is installed."""
PROGRAM = Path(__file__).with_name("flower_app.py")
FLOAT32 = {"training.precision": "float32"}


def version() -> str | None:
    """The version of Flower that is there; None: there is none."""
    found = next(ENVIRONMENT.glob("lib/*/site-packages/flwr-*.dist-info"), None)
    return found and found.stem.removeprefix("flwr-")


def simulated(cell: Cell, actors: int) -> Watched:
    """What is seen of Flower's simulation of `cell` with so many `actors`, of which each trains a client at a time.

    Raises:
        UserError: Flower is not there, or it fails.
    """
    if not version():
        raise UserError("Flower is not installed in .venv-flower; `make bench` does that")
    program = [ENVIRONMENT / "bin" / "python", PROGRAM, str(actors), cell.partition_file(0)]
    return watch(start(program, cell.root), weigh=True)


def compared(folder: Path, scale: Scale) -> Rows:
    """Flower and ours, in float32 and as it comes."""
    cells = [
        make(folder / f"flower-{n}", replace(scale, rounds=3), "fp32", changes, alike=True)
        for n, changes in enumerate((FLOAT32, None))
    ]
    clients, cores = [scale.images] * scale.clients, available_cores()
    theirs, ours, usual, plain = alternate(
        lambda: simulated(cells[0], cores),
        lambda: trained(cells[0], weigh=True),
        lambda: trained(cells[1]),
        lambda: plain_loop(scale, "float32", clients, cores),
        times=2,
    )
    least = median(plain)
    note = (
        f"Flower {version()}; same clients, batches and images; two runs each in turn, without each run's first round"
    )
    less = ([seconds - least for seconds in lengths(*runs)] for runs in (theirs, ours))
    yield ROWS[0].row(*less, f"{note}; plain steps on all cores at the same time take {least:.3g} s of each")
    yield ROWS[1].row(lengths(*theirs), lengths(*usual), f"precision: auto, which is {cells[1].precision} here")
    yield ROWS[2].row(*([run.peak for run in runs] for runs in (theirs, ours)), "all processes together", "MiB")


def small(folder: Path, scale: Scale) -> Rows:
    """Small models and small clients, with the number of Flower's actors that is best for it."""
    tiny = replace(scale, network="resnet8", image_size=16, batch=32, images=32, clients=10 * scale.clients)
    cell, cores = make(folder / "flower-small", tiny, "fp32", FLOAT32, alike=True), available_cores()
    simulations = {actors: simulated(cell, actors) for actors in (1, cores, 2 * cores)}
    actors, theirs = min(simulations.items(), key=lambda found: median(lengths(found[1])))
    ours, plain = trained(cell), plain_loop(tiny, "float32", [tiny.images] * tiny.clients, cores)
    each = [[seconds / tiny.clients for seconds in lengths(run)] for run in (theirs, ours)]
    beyond = [1000 * cores * (median(times) - plain / tiny.clients) for times in each]
    note = (
        f"ResNet-8, 16 x 16 pixels; Flower with {actors} actors, the fastest of {[*simulations]}; beyond its arithmetic a"
        f" client costs {beyond[0]:.1f} ms of a core in Flower, {beyond[1]:.1f} ms here"
    )
    yield SMALL[0].row(*each, note)
