"""Measure speed and memory of the engine on this machine, each against what is asked of it."""

import argparse
import os
import tempfile
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks import core, flower, rounds
from benchmarks.measure import Rows
from benchmarks.project import QUICK, Scale
from fedmpq.engine.hardware import describe, resolve_precision
from fedmpq.errors import UserError
from fedmpq.files import write_json
from fedmpq.reporting.benchmarks import as_plain_text, draw
from pipeline import command
from pipeline.report import renew

MEASUREMENTS = {
    "steps": (core.steps, core.STEPS.values()),
    "rounds": (rounds.rounds, [*rounds.ROUNDS.values(), rounds.LOGGING]),
    "digits": (rounds.digits, rounds.DIGITS.values()),
    "start": (rounds.start_up, [rounds.START]),
    "packing": (core.packing, [core.PACKING]),
    "allocation": (core.allocation, core.ALLOCATIONS.values()),
    "memory": (rounds.memory, [rounds.MEMORY]),
    "growth": (rounds.growth, rounds.GROWTH),
    "flower": (flower.compared, [flower.OVERHEAD, flower.DEFAULT, flower.MEMORY]),
    "flower-small": (flower.small, [flower.SMALL]),
}
"""What makes the rows, and the rows, in their order."""


@command.entry
def main(arguments: list[str] | None = None) -> None:
    """Measure and print; write what is measured in full to reports/, and the reports anew."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=MEASUREMENTS, help="only these")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works: numbers mean nothing")
    options = parser.parse_args(arguments)
    if torch.cuda.is_available():
        raise UserError("the benchmarks are of processors; hide the GPU from them with: CUDA_VISIBLE_DEVICES=")
    report = circumstances() | {"benchmarks": [*measure(options.only, QUICK if options.quick else Scale())]}
    print(as_plain_text(report))
    if options.only is MEASUREMENTS and not options.quick:
        write_json(command.ROOT / "reports" / "benchmarks.json", report)
        for row in report["benchmarks"]:
            if "growth" in row:
                draw(row["growth"], command.ROOT / "reports")
        renew(command.parameters())


def measure(names: list[str], scale: Scale) -> Rows:
    """The rows of the measurements called `names`, one after another; those of one that fails say why."""
    with tempfile.TemporaryDirectory(prefix="fedmpq-bench-") as folder:
        for name in names:
            print(f"measuring {name} ...", flush=True)
            make, benchmarks = MEASUREMENTS[name]
            try:
                yield from list(make(Path(folder), scale))
            except UserError as error:
                yield from (benchmark.missing(str(error)) for benchmark in benchmarks)


def circumstances() -> dict[str, Any]:
    """The machine, what else it was doing, and the versions."""
    device, libraries = torch.device("cpu"), ("torch", "lightning", "numpy", "mlflow")
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "load_average": [round(average, 2) for average in os.getloadavg()],
        "hardware": describe(device) | {"precision": resolve_precision("auto", device)},
        "versions": {library: version(library) for library in libraries} | {"flwr": flower.version()},
    }


if __name__ == "__main__":
    main()
