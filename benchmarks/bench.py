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
from fedmpq.reporting.benchmarks import as_plain_text
from pipeline import command
from pipeline.report import renew

MEASUREMENTS = {
    "steps": core.steps,
    "rounds": rounds.rounds,
    "start": rounds.start_up,
    "packing": core.packing,
    "allocation": core.allocation,
    "memory": rounds.memory,
    "flower": flower.measure,
}
"""What makes the rows, in their order."""


@command.entry
def main(arguments: list[str] | None = None) -> None:
    """Measure and print; write what is measured in full to reports/benchmarks.json, and the reports anew."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, help="only these")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works: numbers mean nothing")
    options = parser.parse_args(arguments)
    if torch.cuda.is_available():
        raise UserError("the benchmarks are of processors; hide the GPU from them with: CUDA_VISIBLE_DEVICES=")
    rows = measure(options.only or list(MEASUREMENTS), QUICK if options.quick else Scale())
    report = circumstances() | {"benchmarks": list(rows)}
    if not (options.only or options.quick):
        write_json(command.ROOT / "reports" / "benchmarks.json", report)
        renew(command.parameters())
    print(as_plain_text(report))


def measure(names: list[str], scale: Scale) -> Rows:
    """The rows of the measurements called `names`, one after another."""
    with tempfile.TemporaryDirectory(prefix="fedmpq-bench-") as folder:
        for name in dict.fromkeys(names):
            print(f"measuring {name} ...", flush=True)
            yield from MEASUREMENTS[name](Path(folder), scale)


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
