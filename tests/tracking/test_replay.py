import json
import shutil

import pandas as pd
import pytest
from matplotlib.figure import Figure

from fedmpq import tracking
from fedmpq.tracking.connection import connect


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
        files = cell.artifacts(root, run)
        assert set(files) == {"rounds.csv", "bits.csv"}
        for name in ("rounds.csv", "bits.csv"):
            assert set(pd.read_csv(files[name])["seed"]) == {seed}


def test_a_picture_is_drawn_of_the_bits_of_each_seed(root, cell):
    cell.results(root)
    drawn = []
    tracking.replay(root / "results", root, figure=lambda bits: drawn.append(bits) or Figure())
    assert [set(bits["seed"]) for bits in drawn] == [{0}, {1}]
    assert all("bits.png" in cell.artifacts(root, run) for run in cell.runs(root))


def test_live_and_replayed_runs_are_the_same(root, cell, migrated):
    folder = cell.results(root, seeds=[0])
    with cell.start(root) as run:
        cell.log(run)
    tracking.seal(root, folder)
    other = root / "other"
    other.mkdir()
    (other / "mlflow.db").write_bytes(migrated.read_bytes())
    tracking.replay(root / "results", other)
    (live,), (replayed,) = cell.runs(root), cell.runs(other)
    assert cell.history(root, live) == cell.history(other, replayed)
    assert live.data.params == replayed.data.params
    assert live.info.run_name == replayed.info.run_name
    assert live.info.status == replayed.info.status
    names = ("algorithm", "alpha", "seed", "partition", "fingerprint", "result.sha256", "mlflow.source.git.commit")
    assert [live.data.tags[name] for name in names] == [replayed.data.tags[name] for name in names]
    datasets = [run.inputs.dataset_inputs[0].dataset for run in (live, replayed)]
    assert dict(datasets[0]) == dict(datasets[1])
    assert set(cell.artifacts(root, live)) == set(cell.artifacts(other, replayed))


def test_a_run_has_the_commit_of_its_results(root, cell):
    folder = cell.results(root, seeds=[0])
    record = json.loads((folder / "run.json").read_text())
    tracking.replay(root / "results", root)
    del record["commit"]
    record["fingerprint"] = "of results that name none"
    (folder / "run.json").write_text(json.dumps(record))
    tracking.replay(root / "results", root)
    assert [run.data.tags.get("mlflow.source.git.commit") for run in cell.runs(root)] == ["0123456789" * 4, None]


def test_a_sealed_run_is_not_brought_in_again(root, cell):
    folder = cell.results(root)
    for seed in (0, 1):
        with cell.start(root, seed=seed) as run:
            cell.log(run, seed)
    before = [(run.info.run_id, run.info.end_time) for run in cell.runs(root)]
    tracking.seal(root, folder)
    assert tracking.replay(root / "results", root) == []
    assert [(run.info.run_id, run.info.end_time) for run in cell.runs(root)] == before


def test_an_unfinished_run_of_the_same_training_is_completed(root, cell):
    cell.log(cell.start(root), rounds=2)
    with cell.start(root, rounds=9) as other:  # another fingerprint: not touched
        cell.log(other, rounds=1)
    before = {run.info.run_id for run in cell.runs(root)}
    cell.results(root, seeds=[0])
    assert len(tracking.replay(root / "results", root)) == 1
    runs = {run.data.tags["fingerprint"]: run for run in cell.runs(root)}
    assert {run.info.run_id for run in runs.values()} == before
    completed, other = runs["fedmpq-0.5-3"], runs["fedmpq-0.5-9"]
    assert sorted(step for step, _ in cell.history(root, completed)["test/accuracy"]) == [1, 2, 3]
    assert completed.info.status == "FINISHED"
    assert len(cell.history(root, other)["test/accuracy"]) == 1


def test_a_run_that_was_cut_off_before_it_was_described_is_completed(root, cell):
    client = connect(root).client
    experiment = client.create_experiment("digits")
    client.create_run(experiment, tags=cell.training().tags, run_name="cut off")
    cell.results(root, seeds=[0])
    tracking.replay(root / "results", root)
    (run,) = cell.runs(root)
    assert run.data.params["training.rounds"] == "3"
    assert run.inputs.dataset_inputs[0].dataset.name == "digits"


def test_other_results_in_the_same_place_are_other_runs(root, cell):
    cell.results(root, seeds=[0])
    tracking.replay(root / "results", root)
    cell.results(root, seeds=[0], rounds=4)
    assert len(tracking.replay(root / "results", root)) == 1
    assert {len(cell.history(root, run)["test/accuracy"]) for run in cell.runs(root)} == {3, 4}


def test_a_copy_of_results_is_not_brought_in_again(root, cell):
    folder = cell.results(root)
    tracking.replay(root / "results", root)
    shutil.copytree(folder.parents[1], root / "results" / "old")
    assert tracking.replay(root / "results", root) == []


def test_a_deleted_run_stays_deleted(root, cell):
    cell.results(root, seeds=[0])
    tracking.replay(root / "results", root)
    connect(root).client.delete_run(cell.runs(root)[0].info.run_id)
    assert tracking.replay(root / "results", root) == []


@pytest.mark.parametrize(
    "damage",
    [
        ("rounds.csv", None),
        ("run.json", '{"seeds": ['),
        ("run.json", '{"seeds": [0]}'),
        ("run.json", '{"experiment": "digits", "seeds": [0]}'),
        ("run.json", '{"experiment": "digits", "seeds": 3}'),
        ("run.json", "[]"),
        ("rounds.csv", ""),
        ("bits.csv", "seed,round\n0,1\n"),
        ("bits.csv", b"\xff\xfe"),
    ],
)
def test_damaged_results_are_named_and_passed_over(root, cell, capsys, damage):
    folder, (name, content) = cell.results(root, algorithm="aqfl"), damage
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    cell.results(root, seeds=[0])
    assert tracking.replay(root / "results", root) == ["digits: fedmpq alpha-0.5 seed 0"]
    error = capsys.readouterr().err
    assert error.startswith(f"warning: {folder}/{name} is broken: ")
    assert error.count("\n") == 1
    assert [run.info.run_name for run in cell.runs(root)] == ["fedmpq alpha=0.5 seed=0"]


def test_layers_keep_their_names(root, cell):
    folder = cell.results(root, seeds=[0])
    (folder / "bits.csv").write_text((folder / "bits.csv").read_text().replace("conv1", "0").replace("fc", "NA"))
    drawn = []
    tracking.replay(root / "results", root, figure=lambda bits: drawn.append(bits) or Figure())
    assert set(drawn[0]["layer"]) == {"0", "NA"}


def test_many_rounds_take_several_calls(root, cell):
    cell.results(root, seeds=[0], rounds=150)
    tracking.replay(root / "results", root)
    history = cell.history(root, *cell.runs(root))
    assert sum(map(len, history.values())) > 1000
    assert [step for step, _ in history["bits-left/budget-4"]] == list(range(1, 151))
