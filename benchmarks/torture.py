"""Kill a training at random moments, let it go on, and compare it with one that was never interrupted."""

import argparse
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from subprocess import Popen
from typing import Any

import pandas as pd

from benchmarks.project import NAME, Scale, make, train
from fedmpq.errors import UserError
from pipeline import command

SCALE = Scale("resnet8", image_size=16, images=144, test_images=360, rounds=10)
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def torture(folder: Path, kills: int, seed: int, scale: Scale = SCALE) -> list[str]:
    """Kill trainings `kills` times in all, at moments drawn by `seed`; returns the differences found.

    Raises:
        UserError: one ended with an error of its own.
    """
    chance, done, differences = random.Random(seed), 0, []
    expected, _ = _endured(folder / "whole", scale, chance, kills=0)
    while done < kills:
        found, killed = _endured(folder / f"after-{done}", scale, chance, kills - done)
        differences += [f"{name} differs" for name in expected if found[name] != expected[name]]
        done += killed
    return differences


def _endured(root: Path, scale: Scale, chance: random.Random, kills: int) -> tuple[dict[str, Any], int]:
    """What has come of a training that was killed up to `kills` times, and how often it was."""
    cell, killed = make(root, scale, "fedmpq", {"participation.share": 0.4}), 0
    while True:
        process = train(cell)
        if killed < kills:
            killed += _kill(process, chance)
            print(f"killed {killed} of {kills}", flush=True)
        if process.wait() == 0:  # Not for the end of its output: workers may outlive it.
            return _results(root), killed
        if process.returncode == 1:
            raise UserError(
                f"the training ended with: {(process.stdout.read().strip() or 'an error').splitlines()[-1]}"
            )


def _kill(process: Popen, chance: random.Random) -> bool:
    """Send a signal at a random moment of the start or of the rounds; False if it had ended before."""
    starting = chance.random() < 0.25
    if not starting:
        next((line for line in process.stdout if "accuracy" in line), None)  # It is printed when a round is over.
    time.sleep(chance.uniform(0, 8 if starting else 1))
    alive = process.poll() is None
    process.send_signal(chance.choice(SIGNALS))
    process.wait()
    return alive


def _results(root: Path) -> dict[str, Any]:
    """What has to be the same: rows but for their times, bits, the final weights, and the runs in MLflow."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name(NAME).experiment_id])
    history = [client.get_metric_history(run.info.run_id, "test/accuracy") for run in runs]
    (table,), (bits,), (model,) = map(
        root.glob, ("results/**/rounds.csv", "results/**/bits.csv", "checkpoints/*/model.pt")
    )
    return {
        "rounds.csv": pd.read_csv(table).drop(columns="seconds").to_csv(),
        "bits.csv": bits.read_bytes(),
        "model.pt": model.read_bytes(),
        "MLflow": [(run.info.status, [m.step for m in steps]) for run, steps in zip(runs, history, strict=True)],
    }


@command.entry
def main(arguments: list[str] | None = None) -> None:
    """Torture, and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="how often (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        differences = torture(Path(folder), options.kills, options.seed)
    print("\n".join([*differences, f"{len(differences)} differences after {options.kills} kills"]))
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
