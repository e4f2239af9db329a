import json
import shutil

import numpy as np
import pandas as pd
import pytest

from fedmpq.engine.results import headline
from fedmpq.errors import UserError
from fedmpq.reporting.results import keep_partitions, load


def test_cells_in_the_order_of_the_alphas(project):
    project.cell("fp32", 0.1, [0.5, 0.6])
    project.cell("fedmpq", 0.5, [0.5])
    results = load(project.root, project.parameters, "digits")
    assert list(results.cells) == [("fp32", 0.1), ("fedmpq", 0.5)]
    assert results.seeds == [0, 1]
    assert results.seeding == "seeds 0, 1 at alpha 0.1; seed 0 at alpha 0.5"
    shutil.rmtree(project.cell("fpq8", 0.5, [0.5, 0.5]).parents[1] / "fedmpq")
    assert load(project.root, project.parameters, "digits").seeding == "seeds 0, 1"


def test_every_machine_is_named(project):
    folder = project.cell("fp32", 0.1, [0.5, 0.6])
    run = json.loads((folder / "run.json").read_text())
    run["earlier"] = {"seed-0": {"commit": "abc", "hardware": run["hardware"] | {"processor": "Older CPU"}}}
    (folder / "run.json").write_text(json.dumps(run))
    named = load(project.root, project.parameters, "digits").hardware
    assert named == [f"{name} CPU, 2 cores, cpu, float32" for name in ("Older", "Test")]
    assert headline(run)["hardware"] == ["Older CPU", "Test CPU", "cpu"]


def test_curve_spans_the_seeds(project):
    project.cell("fp32", 0.1, [0.4, 0.6])
    curve = load(project.root, project.parameters, "digits").cells["fp32", 0.1].curve("test_accuracy")
    assert curve.loc[10].tolist() == pytest.approx([0.5, 0.4, 0.6])


def test_difference_on_devices_is_of_the_rounds_in_which_they_were_evaluated(project):
    for algorithm, final in (("fpq8", 0.6), ("fedmpq", 0.5)):
        path = project.cell(algorithm, 0.1, [final, final]) / "rounds.csv"
        table = pd.read_csv(path)
        devices = (table["test_accuracy"] - 0.1 * table["seed"]).where(table["round"] > 8)
        table.assign(device_accuracy=devices).to_csv(path, index=False)
    cells = load(project.root, project.parameters, "digits").cells
    assert cells["fedmpq", 0.1].final(devices=True).tolist() == pytest.approx([50, 40])
    assert cells["fedmpq", 0.1].minus(cells["fpq8", 0.1], devices=True).tolist() == pytest.approx([-10, -10])


def test_last_bits_of_a_client_that_missed_the_last_round(project):
    folder = project.cell("fedmpq", 0.1, [0.5])
    table = pd.read_csv(folder / "bits.csv")
    table[(table["round"] < 10) | (table["client"] != 0)].to_csv(folder / "bits.csv", index=False)
    cell = load(project.root, project.parameters, "digits").cells["fedmpq", 0.1]
    assert set(cell.last_bits[cell.last_bits["client"] == 0]["round"]) == {9}
    assert list(cell.client_bits(2)["layer"]) == list(project.sizes)


def test_partitions_are_those_that_were_drawn(project):
    project.cell("fp32", 0.1, [0.5])
    for alpha in (5, 0.1):
        project.partition(alpha, np.ones((10, 4), int))
    partitions = load(project.root, project.parameters, "digits").partitions
    assert list(partitions) == [0.1, 5]
    assert partitions[5].filter(like="label_").shape == (10, 4)


def test_partitions_and_classes_are_kept_for_where_the_data_are_not(project):
    project.cell("fp32", 0.1, [0.5])
    project.partition(0.1, np.arange(20).reshape(10, 2))
    project.meta(["a b", "label_1"])
    there = load(project.root, project.parameters, "digits")
    keep_partitions(there, project.root / "reports/digits/partitions.csv")
    shutil.rmtree(project.root / "data")
    kept = load(project.root, project.parameters, "digits")
    assert kept.classes == there.classes
    pd.testing.assert_frame_equal(kept.partitions[0.1], there.partitions[0.1], check_like=True)


@pytest.mark.filterwarnings("error")
def test_partitions_of_many_labels_are_kept_without_a_warning(project):
    project.cell("fp32", 0.1, [0.5])
    project.partition(0.1, np.ones((10, 200), int))
    keep_partitions(load(project.root, project.parameters, "digits"), project.root / "reports/digits/partitions.csv")


@pytest.mark.parametrize("names", [["0", "5", "7"], ["NA", "null", "nan"], ["1.0", "True", "", "a,b"]])
def test_layers_are_named_as_they_are(make_project, names):
    project = make_project(sizes=dict.fromkeys(names, 100))
    project.cell("fedmpq", 0.1, [0.5])
    cell = load(project.root, project.parameters, "digits").cells["fedmpq", 0.1]
    assert cell.client_bits(4)["layer"].tolist() == names


def test_no_results_says_what_to_run(project):
    with pytest.raises(UserError, match=r"results/digits holds no results.*dvc repro"):
        load(project.root, project.parameters, "digits")


def test_unknown_experiment(project):
    with pytest.raises(UserError, match="unknown experiment 'nonsense'"):
        load(project.root, project.parameters, "nonsense")


def _run(**changes):
    def spoil(folder):
        path = folder / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return spoil


def _table(name, **columns):
    def spoil(folder):
        pd.read_csv(folder / name).assign(**columns).to_csv(folder / name, index=False)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda folder: (folder / "run.json").write_text('{"seeds": ['), "run.json is broken: Invalid JSON"),
        (lambda folder: (folder / "run.json").write_bytes(b"\xff"), "run.json is broken: Invalid JSON"),
        (lambda folder: (folder / "run.json").unlink(), "run.json is broken: No such file"),
        (_run(best_accuracy={"mean": 0.5, "std": None}), "best_accuracy.seed-0 is missing"),
        (_run(rounds="many"), "run.json is broken: rounds"),
        (_run(algorithm="aqfl"), "it is of aqfl at alpha 0.1"),
        (_run(rounds=12), "rounds.csv is broken: it must have rounds 1 to 12"),
        (_table("rounds.csv", test_accuracy=1.5), "test_accuracy must be in 0..1"),
        (_table("rounds.csv", test_accuracy=None), "test_accuracy must be in 0..1"),
        (_table("rounds.csv", uplink_bytes="much"), "rounds.csv is broken: .*much"),
        (_table("rounds.csv", uplink_bytes=None), "rounds.csv is broken"),
        (_table("bits.csv", bits_given=2.5), "bits.csv is broken"),
        (lambda folder: (folder / "rounds.csv").write_text(""), "rounds.csv is broken"),
        (lambda folder: (folder / "bits.csv").write_text("seed,round\n0,1\n"), "bits.csv is broken: column client"),
        (lambda folder: (folder / "bits.csv").unlink(), "bits.csv is broken: No such file"),
    ],
)
def test_broken_file_is_one_clear_line(project, spoil, fault):
    spoil(project.cell("fedmpq", 0.1, [0.5]))
    with pytest.raises(UserError, match=fault) as error:
        load(project.root, project.parameters, "digits")
    assert "results/digits/fedmpq/alpha-0.1" in str(error.value)
    assert "dvc repro" in str(error.value)
    assert "\n" not in str(error.value)
