"""Kill a training at random moments, let it go on, and compare it with one that was never interrupted."""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from subprocess import Popen
from typing import Any

import pandas as pd
import torch

from benchmarks.project import NAME, Scale, make, train
from fedmpq.errors import UserError
from pipeline import command

SCALE = Scale("resnet8", image_size=16, images=144, test_images=360, rounds=10)
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def torture(folder: Path, kills: int, seed: int, scale: Scale = SCALE) -> list[str]:
    """Kill a training `kills` times at moments drawn by `seed`; returns the differences found.

    Raises:
        UserError: it ended with an error of its own.
    """
    chance, done, outcomes = random.Random(seed), 0, []
    whole, victim = (make(folder / name, scale, "fedmpq", {"participation.share": 0.4}) for name in ("whole", "victim"))
    undisturbed = train(whole)
    while True:
        process = train(victim)
        if done < kills:
            done += kill(process, chance)
            print(f"killed {done} of {kills}", flush=True)
        if completed(process):
            outcomes.append(results(victim.root))
            if done == kills:
                break
    completed(undisturbed)
    expected = results(whole.root) | {"MLflow": [("FINISHED", [*range(1, scale.rounds + 1)])]}
    return [f"{name} differs" for found in outcomes for name in expected if found[name] != expected[name]]


def kill(process: Popen, chance: random.Random) -> bool:
    """Send a signal at a random moment of the start or of the rounds; False if it had ended before."""
    starting = chance.random() < 0.25
    if not starting:
        next((line for line in process.stdout if "accuracy" in line), None)  # It is printed when a round is over.
    time.sleep(chance.uniform(0, 8 if starting else 1))
    alive = process.poll() is None
    process.send_signal(chance.choice(SIGNALS))
    process.wait()
    return alive


def completed(process: Popen) -> bool:
    """Wait for the end of a training, not of workers that outlive it; False: it was killed."""
    if process.wait() == 1:
        raise UserError(f"the training ended with: {(process.stdout.read().strip() or 'an error').splitlines()[-1]}")
    return process.returncode == 0


def results(root: Path) -> dict[str, Any]:
    """What has to be the same: rows but for their times, bits, the final weights, and the runs in MLflow.

    They are removed, and everything else that a later training could go on from.
    """
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name(NAME).experiment_id])
    history = [client.get_metric_history(run.info.run_id, "test/accuracy") for run in runs]
    (rounds,), (bits,) = (root.glob(f"results/**/{name}.csv") for name in ("rounds", "bits"))
    (model,) = root.glob("checkpoints/*/model.pt")
    found = {
        "rounds.csv": pd.read_csv(rounds).drop(columns="seconds").to_csv(),
        "bits.csv": bits.read_bytes(),
        "model": {key: value.numpy().tobytes() for key, value in torch.load(model, weights_only=True).items()},
        "MLflow": [(run.info.status, [m.step for m in steps]) for run, steps in zip(runs, history, strict=True)],
    }
    for folder in ("results", "checkpoints"):
        shutil.rmtree(root / folder)
    for file in root.glob("mlflow.db*"):
        file.unlink()
    return found


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
