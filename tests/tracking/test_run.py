import shutil
from pathlib import Path

import pytest

from fedmpq import tracking
from fedmpq.errors import UserError
from fedmpq.tracking.connection import connect


def test_a_run_says_what_it_is(root, cell, monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "train@digits-fedmpq-0.5")
    monkeypatch.setenv("DVC_EXP_NAME", "pale-moon")
    with cell.start(root, seed=3) as run:
        cell.log(run)
    (found,) = cell.runs(root)
    assert found.info.run_name == "fedmpq alpha=0.5 seed=3"
    assert found.info.status == "FINISHED"
    assert found.info.artifact_uri.startswith((root / "mlartifacts" / "digits").as_uri())
    assert found.data.params == {
        "algorithm": "fedmpq",
        "alpha": "0.5",
        "seed": "3",
        "data.source": "digits",
        "training.rounds": "3",
        "model.budgets": "[2, 4]",
        "lambda": "0.1",
    }
    expected = {
        "algorithm": "fedmpq",
        "alpha": "0.5",
        "seed": "3",
        "partition": "3" * 64,
        "fingerprint": "fedmpq-0.5-3",
        "dvc.stage": "train@digits-fedmpq-0.5",
        "dvc.experiment": "pale-moon",
    }
    assert expected.items() <= found.data.tags.items()
    (logged,) = found.inputs.dataset_inputs
    assert (logged.dataset.name, logged.dataset.digest) == ("digits", "3" * 36)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"training.rounds": 25, "model.network": "resnet8"}, ""),
        ({}, ""),
        ({"training.rounds": 1}, ", 1 round"),
        ({"training.rounds": 3, "model.network": "resnet14"}, ", 3 rounds, resnet14"),
        ({"model.network": "my.models:vit"}, ", my.models:vit"),
    ],
)
def test_other_rounds_and_networks_than_those_of_the_file_are_in_the_name(tmp_path, changes, named):
    shutil.copy(Path(__file__).parents[2] / "params.yaml", tmp_path)
    training = tracking.Training("digits", "aqfl", "1.0", 7, changes)
    assert training.name(tmp_path) == f"aqfl alpha=1.0 seed=7{named}"


@pytest.mark.parametrize("content", [None, "digits: [", "experiments: [mine]"])
def test_without_parameters_in_the_file_nothing_is_added_to_the_name(tmp_path, content):
    if content:
        (tmp_path / "params.yaml").write_text(content)
    training = tracking.Training("digits", "fp32", "0.1", 0, {"training.rounds": 3})
    assert training.name(tmp_path) == "fp32 alpha=0.1 seed=0"


def test_rounds_are_logged_at_their_step(root, cell):
    with cell.start(root) as run:
        cell.log(run)
    history = cell.history(root, *cell.runs(root))
    assert history["bytes/uplink"] == [(1, 1000), (2, 2000), (3, 3000)]
    assert history["bits/budget-4"] == [(1, 4), (2, 4), (3, 4)]


def test_files_are_kept(root, cell, tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"weights")
    with cell.start(root) as run:
        run.log_file(tmp_path / "weights.pt", "model")
    assert cell.artifacts(root, *cell.runs(root))["weights.pt"].read_bytes() == b"weights"


def test_the_model_of_the_newest_run_that_has_one_is_fetched(root, cell, tmp_path):
    for content in (b"first", b"second", None):
        with cell.start(root) as run:
            if content:
                (tmp_path / "model.pt").write_bytes(content)
                run.log_file(tmp_path / "model.pt", "model")
        run = cell.runs(root)[-1]
        connect(root).client.set_tag(run.info.run_id, tracking.run.SEAL, "done")
    (tmp_path / "copy").mkdir()
    found = tracking.fetch_model(root, cell.training(), tmp_path / "copy")
    assert (found / "model.pt").read_bytes() == b"second"
    for other in ({"seed": 5}, {"rounds": 9}):
        with pytest.raises(UserError, match=r"^MLflow has no trained model of fedmpq at alpha 0\.5, seed \d"):
            tracking.fetch_model(root, cell.training(**other), tmp_path / "copy")


def test_no_model_is_fetched_where_nothing_was_trained(root, cell, tmp_path):
    with pytest.raises(UserError, match="MLflow has no trained model"):
        tracking.fetch_model(root, cell.training(), tmp_path)


@pytest.mark.parametrize(
    ("error", "status"),
    [(ValueError("numbers"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(143), "KILLED")],
)
def test_how_a_run_ended(root, cell, error, status):
    with pytest.raises(type(error)), cell.start(root):
        raise error
    assert cell.runs(root)[0].info.status == status


def test_a_run_that_was_cut_off_goes_on_and_holds_no_round_twice(root, cell):
    first = cell.start(root, rounds=4)
    cell.log(first, rounds=2)
    first.__exit__(SystemExit, SystemExit(143), None)
    assert cell.runs(root)[0].info.status == "KILLED"
    with cell.start(root, rounds=4) as second:
        assert cell.runs(root)[0].info.status == "RUNNING"
        cell.log(second, rounds=4)
    (found,) = cell.runs(root)
    assert found.info.status == "FINISHED"
    assert [step for step, _ in cell.history(root, found)["test/loss"]] == [1, 2, 3, 4]


@pytest.mark.parametrize("other", [{"seed": 1}, {"rounds": 9}, {"algorithm": "aqfl"}, {"alpha": "0.1"}])
def test_another_training_is_another_run(root, cell, other):
    for changes in ({}, other):
        with cell.start(root, **changes) as run:
            cell.log(run, seed=changes.get("seed", 0))
    assert [len(cell.history(root, run)["test/loss"]) for run in cell.runs(root)] == [3, 3]


def test_the_same_training_again_after_its_results_is_another_run(root, cell):
    for _ in range(2):
        with cell.start(root) as run:
            cell.log(run)
        tracking.seal(root, cell.results(root, seeds=[0]))
    assert [len(cell.history(root, run)["test/loss"]) for run in cell.runs(root)] == [3, 3]


def test_a_run_that_was_deleted_is_begun_anew(root, cell):
    with cell.start(root) as run:
        cell.log(run, rounds=1)
    (deleted,) = cell.runs(root)
    connect(root).client.delete_run(deleted.info.run_id)
    with cell.start(root) as run:
        cell.log(run)
    (found,) = cell.runs(root)
    assert found.info.run_id != deleted.info.run_id
    assert len(cell.history(root, found)["test/loss"]) == 3


def test_a_deleted_experiment_is_restored(root, cell):
    with cell.start(root):
        pass
    client = connect(root).client
    client.delete_experiment(client.get_experiment_by_name("digits").experiment_id)
    with cell.start(root, seed=1):
        pass
    assert "\ndigits, alpha 0.5  http://host/#/experiments/" in tracking.links(root, "http://host")
