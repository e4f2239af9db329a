import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlparse
from urllib.request import url2pathname

import pandas as pd
import pytest

from fedmpq import tracking
from fedmpq.engine.results import EVENTS
from fedmpq.tracking.connection import connect

BUDGETS = [2, 4]
LAYERS = {"conv1": 108, "fc": 640}
COMMIT = "0123456789" * 4


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A project without a database."""
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def root(bare, migrated):
    """A project with an empty database."""
    shutil.copy(migrated, bare / "mlflow.db")
    return bare


def round_row(seed, number):
    """A row of rounds.csv with numbers that have no short decimal form."""
    return {
        "seed": seed,
        "round": number,
        "test_accuracy": 1 - 1 / (number + 1.7 + seed),
        "test_loss": 2 / (3 * number),
        "train_loss": 1 / (7 * number),
        "uplink_bytes": 1000 * number,
        "downlink_bytes": 1100 * number,
        **dict.fromkeys(EVENTS, 1),
        "simulated_seconds": 2.0,
        "seconds": 0.1 * number,
    }


def bit_rows(seed, number):
    return [
        {
            "seed": seed,
            "round": number,
            "client": client,
            "budget": budget,
            "layer": layer,
            "parameters": size,
            "bits_given": budget,
            "bits_left": max(1, budget - (number + index) % 2),
        }
        for client, budget in enumerate(BUDGETS)
        for index, (layer, size) in enumerate(LAYERS.items())
    ]


def results_of(root, algorithm="fedmpq", alpha="0.5", seeds=(0, 1), rounds=3):
    """Write results of one cell; returns its folder."""
    folder = root / "results" / "digits" / algorithm / f"alpha-{alpha}"
    folder.mkdir(parents=True, exist_ok=True)
    numbers = [(seed, number) for seed in seeds for number in range(1, rounds + 1)]
    pd.DataFrame([round_row(*n) for n in numbers]).to_csv(folder / "rounds.csv", index=False)
    pd.DataFrame([row for n in numbers for row in bit_rows(*n)]).to_csv(folder / "bits.csv", index=False)
    accuracy = {f"seed-{seed}": 0.5 + 0.1 * seed for seed in seeds}
    metrics = {
        "experiment": "digits",
        "algorithm": algorithm,
        "alpha": float(alpha),
        "seeds": list(seeds),
        "rounds": rounds,
        "final_accuracy": {"mean": 0.5, "std": None, **accuracy},
        "best_accuracy": {"mean": 0.6, "std": None, **accuracy},
        "average_bits": {"given": 3.0, "left": 2.5, "all": 3.5},
        "bytes_per_client_and_round": {"uplink": 100, "downlink": 110, "nominal": 90},
        "seconds_per_round": 0.2,
        "hardware": {"processor": "any"},
        "commit": COMMIT,
        "parameters": parameters(algorithm, alpha, rounds),
        "partition": {f"seed-{seed}": f"{seed}" * 64 for seed in seeds},
        "fingerprint": f"{algorithm}-{alpha}-{rounds}",
    }
    (folder / "run.json").write_text(json.dumps(metrics))
    return folder


def parameters(algorithm="fedmpq", alpha="0.5", rounds=3):
    own = {"algorithm": algorithm, "alpha": float(alpha)}
    return own | {"data.source": "digits", "training.rounds": rounds, "model.budgets": BUDGETS, "lambda": 0.1}


def training(algorithm="fedmpq", alpha="0.5", seed=0, rounds=3):
    """The training whose results `results_of` writes."""
    names, digests = ("digits", algorithm, alpha, seed), (f"{seed}" * 64, f"{algorithm}-{alpha}-{rounds}")
    return tracking.Training(*names, parameters(algorithm, alpha, rounds), *digests)


def start(root, **kwargs):
    """Begin the run of such a training."""
    return tracking.Run(root, training(**kwargs))


def log_rounds(run, seed=0, rounds=3, first=1):
    for number in range(first, rounds + 1):
        run.log_round(tracking.round_metrics(round_row(seed, number), bit_rows(seed, number)), number)


def runs_in(root):
    """All runs of experiment digits that are not deleted, by name and then by start."""
    client = connect(root).client
    experiment = client.get_experiment_by_name("digits")
    found = client.search_runs([experiment.experiment_id]) if experiment else []
    return sorted(found, key=lambda run: (run.info.run_name, run.info.start_time))


def history(root, run):
    """name -> [(step, value), ...] of all that was logged."""
    client, run_id = connect(root).client, run.info.run_id
    names = client.get_run(run_id).data.metrics
    return {name: [(m.step, m.value) for m in client.get_metric_history(run_id, name)] for name in names}


def artifacts(root, run):
    """The files that the database says `run` has, by name."""
    return {path.name: path for path in Path(url2pathname(urlparse(run.info.artifact_uri).path)).rglob("*.*")}


@pytest.fixture
def another_process():
    """Call it to connect as another process would."""
    return connect.__globals__["_connection"].cache_clear


@pytest.fixture
def cell():
    """The helpers above, for tests."""
    return SimpleNamespace(
        results=results_of,
        training=training,
        start=start,
        log=log_rounds,
        runs=runs_in,
        history=history,
        artifacts=artifacts,
        parameters=parameters,
    )
