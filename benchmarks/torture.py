"""Kill a training at random moments, let it go on, and compare it with one that was never interrupted."""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch

from fedmpq.errors import UserError
from pipeline import command

SETTINGS = ("rounds=10", "seeds=[0]", "batch_size=64", "participation=0.4")
CELL = ("--experiment", "digits", "--algorithm", "fedmpq", "--alpha", "0.5")
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


class Victim:
    """A copy of the project in a folder of its own, whose training is killed."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("src", "pipeline"):
            shutil.copytree(command.ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(command.ROOT / "params.yaml", folder)
        self.environment = {**os.environ, "PYTHONPATH": f"{folder / 'src'}{os.pathsep}{folder}"}
        self.environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"
        for stage in ("prepare", "partition"):
            self._start(f"pipeline.{stage}", "--experiment", "digits").communicate()

    def _start(self, module: str, *arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # In the background of a shell, Ctrl-C would be ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def train(self, out: str) -> subprocess.Popen:
        """Start, or go on with, the training whose results go to `out`."""
        settings = [word for setting in SETTINGS for word in ("--set", setting)]
        return self._start("pipeline.train", *CELL, *settings, "--out", str(self.folder / out))

    def forget(self) -> None:
        """Remove results and everything that a later training could go on from."""
        for name in ("killed", "checkpoints"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for file in self.folder.glob("mlflow.db*"):
            file.unlink()

    def results(self, out: str) -> dict[str, object]:
        """What has to be the same: rows but for their times, bits, and the final weights."""
        (model,) = (self.folder / "checkpoints").glob("*/model.pt")
        return {
            "rounds.csv": pd.read_csv(self.folder / out / "rounds.csv").drop(columns="seconds").to_csv(),
            "bits.csv": (self.folder / out / "bits.csv").read_bytes(),
            "model": {key: value.numpy().tobytes() for key, value in torch.load(model, weights_only=True).items()},
        }

    def tracking_faults(self) -> list[str]:
        """What is wrong in MLflow: more than one run, one that has not ended well, a step logged twice."""
        from mlflow.tracking import MlflowClient

        client = MlflowClient(self.environment["MLFLOW_TRACKING_URI"])
        runs = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
        faults = [] if len(runs) == 1 else [f"{len(runs)} runs in MLflow"]
        for run in runs:
            steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "test/accuracy")]
            if steps != list(range(1, 11)):
                faults.append(f"steps {steps} in MLflow")
            if run.info.status != "FINISHED":
                faults.append(f"a run that is {run.info.status}")
        return faults


def torture(folder: Path, kills: int, seed: int) -> list[str]:
    """Kill a training `kills` times at moments drawn by `seed`; returns the differences found."""
    chance, victim, differences = random.Random(seed), Victim(folder), []
    process = victim.train("whole")
    output, _ = process.communicate()
    if process.returncode:
        raise UserError(f"the training fails without being killed: {output.strip().splitlines()[-1]}")
    expected = victim.results("whole")
    victim.forget()
    done = 0
    while True:
        process = victim.train("killed")
        if done < kills:
            done += kill(process, chance)
            print(f"killed {done} of {kills}", flush=True)
        output, _ = process.communicate()
        if process.returncode == 0:
            found = victim.results("killed")
            differences += [f"{name} differs" for name in expected if found[name] != expected[name]]
            differences += victim.tracking_faults()
            if done >= kills:
                return differences
            victim.forget()
        elif process.returncode == 1:
            return [*differences, f"the training ended with: {output.strip().splitlines()[-1]}"]


def kill(process: subprocess.Popen, chance: random.Random) -> bool:
    """Send a signal at a random moment of the start or of the rounds; False if it had ended before."""
    if chance.random() < 0.75:
        next((line for line in process.stdout if "accuracy" in line), None)  # It is printed when a round is over.
        time.sleep(chance.uniform(0, 1))
    else:
        time.sleep(chance.uniform(0, 8))
    alive = process.poll() is None
    process.send_signal(chance.choice(SIGNALS))
    process.wait()
    return alive


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
    if differences:
        sys.exit(1)


if __name__ == "__main__":
    main()
