import pandas as pd
import pytest
from matplotlib.figure import Figure

from fedmpq import tracking
from fedmpq.tracking.connection import connect


def artifacts(root, run):
    folder = root / "mlartifacts" / "digits" / run.info.run_id / "artifacts"
    return {path.name: path for path in folder.iterdir()}


def test_each_seed_is_brought_in_once(root, cell):
    cell.results(root)
    cell.results(root, algorithm="aqfl", seeds=[0])
    brought = tracking.replay(root / "results", root)
    assert brought == [
        "digits: aqfl alpha-0.5 seed 0",
        "digits: fedmpq alpha-0.5 seed 0",
        "digits: fedmpq alpha-0.5 seed 1",
    ]
    assert [run.info.run_name for run in cell.runs(root)] == [
        "aqfl alpha=0.5 seed=0",
        "fedmpq alpha=0.5 seed=0",
        "fedmpq alpha=0.5 seed=1",
    ]
    assert tracking.replay(root / "results", root) == []
    assert len(cell.runs(root)) == 3


def test_artifacts_hold_the_rows_of_their_seed(root, cell):
    cell.results(root)
    tracking.replay(root / "results", root)
    for seed, run in enumerate(cell.runs(root)):
        files = artifacts(root, run)
        assert set(files) == {"rounds.csv", "bits.csv"}
        for name in ("rounds.csv", "bits.csv"):
            assert set(pd.read_csv(files[name])["seed"]) == {seed}


def test_a_picture_is_drawn_of_the_bits_of_each_seed(root, cell):
    cell.results(root)
    drawn = []
    tracking.replay(root / "results", root, figure=lambda bits: drawn.append(bits) or Figure())
    assert [set(bits["seed"]) for bits in drawn] == [{0}, {1}]
    assert all("bits.png" in artifacts(root, run) for run in cell.runs(root))


def test_live_and_replayed_runs_are_the_same(root, cell, migrated):
    folder = cell.results(root, seeds=[0])
    with cell.start(root) as run:
        cell.log(run)
    tracking.seal(root, folder, {0: run.run_id})
    other = root / "other"
    other.mkdir()
    (other / "mlflow.db").write_bytes(migrated.read_bytes())
    tracking.replay(root / "results", other)
    (live,), (replayed,) = cell.runs(root), cell.runs(other)
    assert cell.history(root, live.info.run_id) == cell.history(other, replayed.info.run_id)
    assert live.data.params == replayed.data.params
    assert live.info.run_name == replayed.info.run_name
    assert live.info.status == replayed.info.status
    names = ("algorithm", "alpha", "seed", "partition", "fingerprint", "result.sha256")
    assert [live.data.tags[name] for name in names] == [replayed.data.tags[name] for name in names]
    datasets = [run.inputs.dataset_inputs[0].dataset for run in (live, replayed)]
    assert dict(datasets[0]) == dict(datasets[1])
    assert set(artifacts(root, live)) == set(artifacts(other, replayed))


def test_a_sealed_run_is_not_brought_in_again(root, cell):
    folder = cell.results(root)
    runs = {}
    for seed in (0, 1):
        with cell.start(root, seed=seed) as run:
            cell.log(run, seed)
        runs[seed] = run.run_id
    tracking.seal(root, folder, runs)
    assert tracking.replay(root / "results", root) == []


def test_an_unfinished_run_of_the_same_training_is_completed(root, cell):
    unfinished = cell.start(root)
    cell.log(unfinished, rounds=2)
    with cell.start(root, rounds=9) as other:  # another fingerprint: not touched
        cell.log(other, rounds=1)
    cell.results(root, seeds=[0])
    assert len(tracking.replay(root / "results", root)) == 1
    assert {run.info.run_id for run in cell.runs(root)} == {unfinished.run_id, other.run_id}
    assert sorted(step for step, _ in cell.history(root, unfinished.run_id)["test/accuracy"]) == [1, 2, 3]
    assert connect(root).client.get_run(unfinished.run_id).info.status == "FINISHED"
    assert len(cell.history(root, other.run_id)["test/accuracy"]) == 1


def test_other_results_in_the_same_place_are_other_runs(root, cell):
    cell.results(root, seeds=[0])
    tracking.replay(root / "results", root)
    cell.results(root, seeds=[0], rounds=4)
    assert len(tracking.replay(root / "results", root)) == 1
    assert {len(cell.history(root, run.info.run_id)["test/accuracy"]) for run in cell.runs(root)} == {3, 4}


def test_a_deleted_run_stays_deleted(root, cell):
    cell.results(root, seeds=[0])
    tracking.replay(root / "results", root)
    connect(root).client.delete_run(cell.runs(root)[0].info.run_id)
    assert tracking.replay(root / "results", root) == []


@pytest.mark.parametrize("damage", ["rounds.csv missing", "metrics.json cut off", "metrics.json lacks a key"])
def test_damaged_results_are_named_and_passed_over(root, cell, capsys, damage):
    folder = cell.results(root, algorithm="aqfl")
    if damage == "rounds.csv missing":
        (folder / "rounds.csv").unlink()
    elif damage == "metrics.json cut off":
        (folder / "metrics.json").write_text('{"seeds": [')
    else:
        (folder / "metrics.json").write_text('{"seeds": [0]}')
    cell.results(root, seeds=[0])
    assert tracking.replay(root / "results", root) == ["digits: fedmpq alpha-0.5 seed 0"]
    assert capsys.readouterr().err.startswith(f"warning: results in {folder} are incomplete or damaged")


def test_many_rounds_take_several_calls(root, cell):
    cell.results(root, seeds=[0], rounds=150)
    tracking.replay(root / "results", root)
    history = cell.history(root, cell.runs(root)[0].info.run_id)
    assert sum(map(len, history.values())) > 1000
    assert [step for step, _ in history["bits-left/budget-4"]] == list(range(1, 151))
