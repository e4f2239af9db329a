"""Measure speed and memory of the engine on this machine, each against what is asked of it."""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks import core, flower, processes, rounds, steps
from benchmarks.project import QUICK, Scale, Workspace
from fedmpq.engine.hardware import describe, resolve_precision
from fedmpq.errors import UserError
from fedmpq.files import write_json
from fedmpq.reporting.benchmarks import as_plain_text
from pipeline import command
from pipeline.report import renew

Rows = Iterator[dict[str, Any]]
MEASUREMENTS: list[tuple[tuple[str, ...], Callable[[Workspace], Rows]]] = [
    ((steps.FLOAT.name, steps.QUANTIZED.name), steps.measure),
    ((rounds.ROUND.name, rounds.LOGGING.name), rounds.measure),
    ((processes.START.name,), processes.start),
    ((core.PACKING.name,), core.packing),
    ((core.ALLOCATION.name,), core.allocation),
    ((processes.MEMORY.name,), processes.memory),
    ((flower.TIME.name, flower.DEFAULT.name, flower.MEMORY.name), flower.measure),
]
"""What makes which rows, in their order."""
NAMES = [name for names, _ in MEASUREMENTS for name in names]
LIBRARIES = ("torch", "lightning", "numpy", "mlflow")
FOREIGN = ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME")
"""Variables that would lead trainings away from the temporary folder."""


@command.entry
def main(arguments: list[str] | None = None) -> None:
    """Measure, write, print."""
    options = _parser().parse_args(arguments)
    default = command.ROOT / "reports" / "benchmarks.json"
    out = options.out or (None if options.only or options.quick else default)
    if torch.cuda.is_available():
        raise UserError("the benchmarks are of processors; hide the GPU from them with: CUDA_VISIBLE_DEVICES=")
    for name in FOREIGN:
        os.environ.pop(name, None)
    report = {
        **circumstances(),
        "benchmarks": list(measure(options.only or NAMES, QUICK if options.quick else Scale())),
    }
    if out:
        write_json(out, report)
    if out == default:
        renew(command.parameters())
    print(as_plain_text(report))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", help=f"only these rows: {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works: numbers mean nothing")
    where = "file to write (default: reports/benchmarks.json; with --only or --quick: none)"
    parser.add_argument("--out", type=Path, metavar="FILE", help=where)
    return parser


def measure(names: list[str], scale: Scale) -> Rows:
    """The rows called `names`, one after another."""
    with tempfile.TemporaryDirectory(prefix="fedmpq-bench-") as folder:
        workspace = Workspace(Path(folder), scale)
        for made, measurement in MEASUREMENTS:
            if wanted := set(made) & set(names):
                print(f"measuring {', '.join(made)} ...", flush=True)
                yield from (row for row in measurement(workspace) if row["name"] in wanted)


def circumstances() -> dict[str, Any]:
    """The machine, what else it was doing, and the versions."""
    device = torch.device("cpu")
    versions = {library: version(library) for library in LIBRARIES} | {"flwr": flower.version()}
    hardware = describe(device) | {"precision": resolve_precision("auto", device)}
    started = datetime.now().astimezone().isoformat(timespec="seconds")
    load = [round(average, 2) for average in os.getloadavg()]
    return {"started": started, "load_average": load, "hardware": hardware, "versions": versions}


if __name__ == "__main__":
    main()
