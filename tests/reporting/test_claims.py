import json

import numpy as np
import pandas as pd
import pytest

from fedmpq.files import write_json
from fedmpq.reporting.claims import evaluate
from fedmpq.reporting.results import load


@pytest.fixture
def check():
    """A function from a project and the name of a claim to the claim's entry."""

    def run(project, name):
        entries = evaluate(load(project.root, project.parameters, project.experiment))
        return next(entry for entry in entries if entry["name"] == name)

    return run


def test_every_claim_says_what_it_needs_where_nothing_fits(project, check):
    project.cell("fp32", 0.1, [0.5])
    for entry in evaluate(load(project.root, project.parameters, "digits")):
        assert entry["verdict"] == "not run"
        assert "`dvc repro`" in entry["found"]
        assert set(entry) == {"name", "claim", "source", "found", "short", "verdict", "numbers"}


@pytest.mark.parametrize(
    ("few", "many", "verdict"),
    [(2, 10, "holds"), (3, 9, "holds"), (1, 10, "does not hold"), (4, 10, "does not hold"), (2, 7, "does not hold")],
)
def test_classes_per_client(project, check, few, many, verdict):
    project.cell("fp32", 0.1, [0.5])
    for alpha, held in ((0.1, few), (5, many)):
        table = np.zeros((10, 10), int)
        table[:, :held] = 1000
        table[:, held:] = 5  # stray images
        project.partition(alpha, table)
    entry = check(project, "classes_per_client")
    assert entry["verdict"] == verdict
    assert entry["numbers"]["alpha 0.1"] == few
    assert "another data set than the paper's (digits)" in entry["found"]


def test_classes_per_client_are_those_of_ten(project, check):
    project.cell("fp32", 0.1, [0.5])
    for alpha in (0.1, 5):
        project.partition(alpha, np.ones((10, 20), int))
    entry = check(project, "classes_per_client")
    assert entry["verdict"] == "not run"
    assert "here are 20 classes" in entry["found"]


@pytest.mark.parametrize("layer", ["conv1", "fc"])
def test_first_and_last_layer(project, check, layer):
    folder = project.cell("fedmpq", 0.1, [0.5, 0.5])
    assert check(project, "first_and_last_layer")["verdict"] == "holds"
    bits = pd.read_csv(folder / "bits.csv")
    at = (bits["layer"] == layer) & (bits["budget"] == 2) & (bits["seed"] == 1) & (bits["round"] == 10)
    bits.loc[at, "bits_given"] = 7
    bits.to_csv(folder / "bits.csv", index=False)
    entry = check(project, "first_and_last_layer")
    assert entry["verdict"] == "does not hold"
    assert sorted(entry["numbers"]["alpha 0.1, budget 2"]) == [7, 8]
    assert entry["numbers"]["alpha 0.1, budget 4"] == [8, 8]
    assert "at alpha 0.1, budget 2" in entry["found"]


def test_low_bits_before_the_end(project, check):
    folder = project.cell("fedmpq", 0.1, [0.5])
    entry = check(project, "low_bits_before_the_end")
    assert entry["verdict"] == "holds"
    assert entry["numbers"]["alpha 0.1"]["layers"] == ["conv7"]
    bits = pd.read_csv(folder / "bits.csv")
    bits.loc[bits["layer"] == "conv2", "bits_given"] = 1
    bits.to_csv(folder / "bits.csv", index=False)
    assert check(project, "low_bits_before_the_end")["verdict"] == "does not hold"


@pytest.mark.parametrize(("speed", "verdict"), [(0.9, "holds"), (0.1, "does not hold")])
def test_aqfl_starts_fast(project, check, speed, verdict):
    project.cell("aqfl", 0.1, [0.6], speed)
    project.cell("fedmpq", 0.1, [0.6], 0.3)
    entry = check(project, "aqfl_starts_fast")
    assert entry["verdict"] == verdict
    expected = 100 * 0.6 * (2 - np.exp(-speed) - np.exp(-2 * speed)) / 2  # rounds 1 and 2 of 10
    assert entry["numbers"]["alpha 0.1"]["early accuracy"]["aqfl"] == pytest.approx(expected, abs=0.01)


def test_ends_above_aqfl(make_project, check):
    project = make_project("cifar10")
    project.cell("aqfl", 0.1, [0.50, 0.52])
    project.cell("fedmpq", 0.1, [0.60, 0.58])
    entry = check(project, "fedmpq_ends_above_aqfl")
    assert entry["verdict"] == "holds"
    assert entry["numbers"]["alpha 0.1"] == {"difference": 8.0, "error": 2.0, "seeds": 2}
    assert entry["short"] == "+8.0 ± 2.0 at 0.1"
    assert "+8.0 ± 2.0 points" in entry["found"]
    assert "up to +9.1 points" in entry["found"]
    assert "10 rounds, the paper's 50" in entry["found"]
    project.cell("aqfl", 0.5, [0.60, 0.70])
    project.cell("fedmpq", 0.5, [0.65, 0.63])
    entry = check(project, "fedmpq_ends_above_aqfl")
    assert entry["verdict"] == "does not hold"
    assert "-1.0 ± 6.0 points, within seed noise at alpha 0.5" in entry["found"]


@pytest.mark.parametrize(("final", "verdict"), [(0.69, "holds"), (0.715, "holds"), (0.67, "does not hold")])
def test_ends_close_to_fpq8(project, check, final, verdict):
    project.cell("fpq8", 0.5, [0.70])
    project.cell("fedmpq", 0.5, [final])
    entry = check(project, "fedmpq_ends_close_to_fpq8")
    assert entry["verdict"] == verdict
    assert "Not run at alpha 1" in entry["found"]
    assert "one seed: under 2 points is noise" in entry["found"]


def test_a_claim_says_at_which_of_its_alphas_there_is_one_seed(make_project, check):
    project = make_project(alphas=[0.1, 0.5, 1.0])
    for alpha, finals in ((0.1, [0.5]), (0.5, [0.6, 0.7])):
        for name in ("fpq8", "fedmpq"):
            project.cell(name, alpha, finals)
    assert check(project, "first_and_last_layer")["short"].endswith(", 1 seed at alpha 0.1")
    later = check(project, "fedmpq_is_later_than_fpq8")
    assert "seed" not in later["short"] + later["found"]
    for name in ("fpq8", "fedmpq"):
        project.cell(name, 1.0, [0.5])
    later = check(project, "fedmpq_is_later_than_fpq8")
    assert later["short"].endswith(" at 1, 1 seed at alpha 1")
    assert later["found"].endswith("one seed at alpha 1: under 2 points is noise.")


@pytest.mark.parametrize(("speed", "verdict"), [(0.2, "holds"), (2.0, "does not hold")])
def test_is_later_than_fpq8(project, check, speed, verdict):
    project.cell("fpq8", 0.5, [0.7], 1.0)
    project.cell("fedmpq", 0.5, [0.7], speed)
    entry = check(project, "fedmpq_is_later_than_fpq8")
    assert entry["verdict"] == verdict
    assert entry["numbers"]["alpha 0.5"]["fpq8"] == 3  # 1 - exp(-3) is the first above 0.9


@pytest.mark.parametrize("sizes", [{"fc": 640}, {"0": 432, "7": 36864}], ids=["one layer", "two layers"])
def test_networks_of_few_layers(make_project, check, sizes):
    project = make_project(sizes=sizes)
    project.cell("fedmpq", 0.1, [0.5])
    few = len(sizes) == 1
    assert check(project, "low_bits_before_the_end")["verdict"] == ("not run" if few else "does not hold")
    assert check(project, "first_and_last_layer")["verdict"] == "does not hold"


def test_cells_without_a_common_seed_are_not_compared(project, check):
    for name, final in (("fpq8", 0.5), ("fedmpq", 0.6)):
        folder = project.cell(name, 0.5, [0.4, final])
        kept = 0 if name == "fpq8" else 1
        run = json.loads((folder / "run.json").read_text())
        write_json(
            folder / "run.json",
            run | {"seeds": [kept], "final_accuracy": {"mean": final, "std": None, f"seed-{kept}": final}},
        )
        for table in ("rounds.csv", "bits.csv"):
            rows = pd.read_csv(folder / table)
            rows[rows["seed"] == kept].to_csv(folder / table, index=False)
    assert "with the same seeds" in check(project, "fedmpq_ends_close_to_fpq8")["found"]


def test_never_arriving_is_later(project, check):
    project.cell("fpq8", 0.5, [0.7], 1.0)
    project.cell("fedmpq", 0.5, [0.3])
    entry = check(project, "fedmpq_is_later_than_fpq8")
    assert entry["verdict"] == "holds"
    assert "FedMPQ in no round" in entry["found"]


@pytest.mark.parametrize("experiment", ["cifar10", "cifar100"])
def test_trails_less_on_cifar10(make_project, check, experiment):
    other = {"cifar10": "cifar100", "cifar100": "cifar10"}[experiment]
    here, there = make_project(experiment), make_project(other)
    for project in (here, there):
        project.cell("fpq8", 0.5, [0.7], 2.0)
    here.cell("fedmpq", 0.5, [0.7], 1.0)
    assert check(here, "trails_less_on_cifar10")["verdict"] == "not run"
    there.cell("fedmpq", 0.5, [0.7], 0.4)
    entry = check(here, "trails_less_on_cifar10")
    assert entry["verdict"] == ("holds" if experiment == "cifar10" else "does not hold")
    assert entry["numbers"][experiment] == 1  # round 3 for FedMPQ, round 2 for FPQ8


@pytest.mark.parametrize(("final", "verdict"), [(0.3, "holds"), (0.5, "does not hold")])
def test_lags_on_tiny_imagenet(make_project, check, final, verdict):
    project = make_project("tiny-imagenet", **{"tiny-imagenet.training.rounds": 2})
    project.cell("fpq8", 0.5, [0.4])
    project.cell("fedmpq", 0.5, [final])
    assert check(project, "lags_on_tiny_imagenet")["verdict"] == verdict


def test_growing_gains(make_project, check):
    algorithms = ["fedmpq", "pruning"]
    project = make_project(algorithms=algorithms)
    project.cell("fedmpq", 0.1, [0.6])
    project.cell("pruning", 0.1, [0.48])
    entry = check(project, "growing_gains")
    assert entry["verdict"] == "holds"
    assert entry["numbers"]["mean"] == 12
    project.cell("fedmpq", 0.5, [0.6])
    project.cell("pruning", 0.5, [0.64])
    assert check(project, "growing_gains")["verdict"] == "does not hold"


def test_what_is_not_in_the_lists_is_to_be_added(project, check):
    project.cell("fedmpq", 0.1, [0.6])
    assert "add `pruning` to `algorithms` and run `dvc repro`" in check(project, "growing_gains")["found"]
