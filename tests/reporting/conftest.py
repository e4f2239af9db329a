"""Writes small result folders in the documented formats: data/partitions/E, data/prepared/E, results/E/A/alpha-L."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from networks import layers

from fedmpq.config import Parameters, load_parameters
from fedmpq.engine.results import EVENTS, headline
from fedmpq.files import write_json

REPO = Path(__file__).parents[2]
BITS = {"fp32": 32, "fpq8": 8}


def fedmpq_bits(sizes: dict[str, int], budget: float) -> dict[str, int]:
    """Eight bits everywhere; while above the budget, the largest layer that has more than one gives one."""
    bits, total = dict.fromkeys(sizes, 8), sum(sizes.values())
    while sum(sizes[name] * b for name, b in bits.items()) > budget * total:
        largest = max((name for name in sizes if bits[name] > 1), key=lambda name: sizes[name])
        bits[largest] -= 1
    return bits


MATRIX = {"algorithms": ["fp32", "fpq8", "aqfl", "fedmpq"], "alphas": [0.1, 0.5]}


class Project:
    """A project folder with parameters, into which finished runs are written."""

    def __init__(
        self, root: Path, experiment: str = "digits", sizes: dict[str, int] | None = None, **overrides: object
    ):
        self.root, self.experiment = root, experiment
        self.parameters: Parameters = load_parameters(REPO / "params.yaml", MATRIX | overrides)
        self.settings = self.parameters.experiment(experiment)
        self.sizes = sizes or layers(int(self.settings.model.network.removeprefix("resnet")))

    def cell(self, algorithm: str, alpha: float, finals: list[float], speed: float = 0.3, wobble: float = 0.0) -> Path:
        """Write one cell whose seed s ends at accuracy `finals[s]`; the larger `speed`, the sooner."""
        seeds, rounds, budgets = list(range(len(finals))), self.settings.training.rounds, self.settings.model.budgets
        total = sum(self.sizes.values())
        sent = sum(total * self._bits(algorithm, b) / 8 + 4000 for b in budgets)
        tables = [self._rounds(seed, final, int(sent), speed, wobble) for seed, final in enumerate(finals)]
        bits = [self._layer_bits(algorithm, seed, client, b) for seed in seeds for client, b in enumerate(budgets)]
        folder = self.root / "results" / self.experiment / algorithm / f"alpha-{self.parameters.alpha_label(alpha)}"
        folder.mkdir(parents=True)
        pd.concat(tables).to_csv(folder / "rounds.csv", index=False)
        table = pd.concat(bits).sort_values(["seed", "round", "client"], kind="stable")
        table.to_csv(folder / "bits.csv", index=False)
        accuracy = {"mean": float(np.mean(finals)), "std": float(np.std(finals, ddof=1)) if len(finals) > 1 else None}
        accuracy |= {f"seed-{seed}": final for seed, final in zip(seeds, finals, strict=True)}
        average = float(np.mean([self._bits(algorithm, b) for b in budgets]))
        size = {"uplink": sent / len(budgets), "downlink": sent / len(budgets), "nominal": total * average / 8}
        run = {"experiment": self.experiment, "algorithm": algorithm, "alpha": alpha, "seeds": seeds}
        run |= {"rounds": rounds, "final_accuracy": accuracy, "best_accuracy": accuracy}
        run |= {
            "average_bits": {"given": average, "left": average - 0.3, "all": average},
            "bytes_per_client_and_round": size,
        }
        run |= {"seconds_per_round": 1.5, "partition": {f"seed-{seed}": "0" for seed in seeds}, "fingerprint": "0"}
        run["hardware"] = {"processor": "Test CPU", "cores": 2, "memory_gib": 8, "device": "cpu"}
        run["hardware"] |= {"precision": "float32", "executor": "processes", "workers": 2, "torch": "2.14.1"}
        run |= {"commit": None, "earlier": {}}
        run["parameters"] = {"algorithm": algorithm, "alpha": alpha, **self.settings.flat(algorithm)}
        write_json(folder / "run.json", run)
        write_json(folder / "metrics.json", headline(run))
        return folder

    def _rounds(self, seed: int, final: float, sent: int, speed: float, wobble: float) -> pd.DataFrame:
        count = self.settings.training.rounds
        rounds = np.arange(1, count + 1)
        noise = np.random.default_rng(seed).normal(0, wobble, count) * (rounds < count - 4)
        accuracy = np.where(rounds > count - 5, final, final * (1 - np.exp(-speed * rounds)) + noise).clip(0, 1)
        columns = {"seed": seed, "round": rounds, "test_accuracy": accuracy, "test_loss": 1.0, "train_loss": 1.0}
        columns |= {"uplink_bytes": sent * rounds, "downlink_bytes": sent * rounds, **dict.fromkeys(EVENTS, 0)}
        return pd.DataFrame(columns | {"simulated_seconds": 7.0, "seconds": 1.5})

    def partition(self, alpha: float, counts: np.ndarray) -> None:
        """Write counts.csv of seed 0."""
        folder = self.root / "data/partitions" / self.experiment / f"alpha-{self.parameters.alpha_label(alpha)}"
        folder.mkdir(parents=True)
        table = pd.DataFrame(counts, columns=[f"label_{label}" for label in range(counts.shape[1])])
        table.insert(0, "client", range(len(counts)))
        table.insert(0, "seed", 0)
        table.to_csv(folder / "counts.csv", index=False)

    def meta(self, classes: list[str]) -> None:
        """Write meta.json of the prepared data."""
        folder = self.root / "data/prepared" / self.experiment
        folder.mkdir(parents=True)
        (folder / "meta.json").write_text(json.dumps({"data": self.experiment, "classes": classes}))

    def _bits(self, algorithm: str, budget: float) -> float:
        return BITS.get(algorithm, budget)

    def _layer_bits(self, algorithm: str, seed: int, client: int, budget: float) -> pd.DataFrame:
        uniform = dict.fromkeys(self.sizes, int(self._bits(algorithm, budget)))
        given = fedmpq_bits(self.sizes, budget) if algorithm == "fedmpq" else uniform
        columns = {"seed": seed, "client": client, "budget": budget, "layer": list(self.sizes)}
        columns |= {"parameters": list(self.sizes.values()), "bits_given": list(given.values())}
        one = pd.DataFrame(columns)
        one["bits_left"] = (one["bits_given"] - (algorithm == "fedmpq")).clip(lower=1)
        rounds = range(1, self.settings.training.rounds + 1)
        order = ["seed", "round", "client", "budget", "layer", "parameters", "bits_given", "bits_left"]
        return pd.concat([one.assign(round=r) for r in rounds])[order]


@pytest.fixture(scope="session")
def project_class():
    return Project


@pytest.fixture
def make_project(tmp_path):
    """A function that makes a project of 10 rounds, without results, for an experiment and overrides."""

    def make(experiment: str = "digits", sizes: dict[str, int] | None = None, **overrides: object) -> Project:
        return Project(tmp_path, experiment, sizes, **{f"{experiment}.training.rounds": 10, **overrides})

    return make


@pytest.fixture
def project(make_project):
    return make_project()


@pytest.fixture(scope="session")
def write_export():
    """Writes what stands in the folder of a model that was exported, of a budget and of files of sizes."""

    def write(folder, budget, **sizes):
        place = folder / f"fedmpq/alpha-0.5/seed-0/budget-{budget:g}"
        place.mkdir(parents=True)
        accuracy = {"float32": 0.9, "PyTorch": 0.8, "ONNX Runtime": 0.8}
        about = {"algorithm": "fedmpq", "alpha": 0.5, "seed": 0, "budget": budget, "accuracy": accuracy}
        (place / "model.json").write_text(json.dumps({**about, "bytes": {"float32": 4000, **sizes}}))
        return place

    return write
