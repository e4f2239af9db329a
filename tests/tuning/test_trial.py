import dataclasses
import multiprocessing

import numpy as np
import pytest
from optuna.trial import TrialState

from fedmpq.config import Execution
from fedmpq.data.dirichlet import training_samples
from fedmpq.errors import UserError
from fedmpq.tuning.search import Objective, search
from fedmpq.tuning.study import opened
from fedmpq.tuning.trial import run, summarize

SEQUENTIAL = Execution(executor="sequential", device="cpu")
VALUES = {"fedmpq.lambda": 0.3, "fedmpq.epsilon": 0.05}


class Forbidden:
    """An array that nobody may look at."""

    def __getattr__(self, name):
        raise AssertionError(f"{name} of a test array")

    def __getitem__(self, key):
        raise AssertionError("a test array was read")

    def __len__(self):
        raise AssertionError("a test array was measured")


@pytest.fixture
def setups(project):
    """The runs of a trial: of some values, with changes to section tune."""

    def setups(values, **tune):
        data = project.root / "data/prepared/digits"
        return Objective(project.space(**tune), data, SEQUENTIAL).setups({**VALUES, **values})

    return setups


def without_times(rows):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@pytest.mark.parametrize("train_samples", [None, 60])
def test_validation_images_train_nobody(setups, train_samples):
    first, second = setups({"data.train_samples": train_samples})
    for setup in (first, second):
        trained, held_out = setup.partition.indices, setup.held_out
        assert not set(trained) & set(held_out)
        used = training_samples(setup.dataset.train_labels, train_samples, setup.seed)
        assert sorted([*trained, *held_out]) == used.tolist()
        assert len(held_out) == round(0.2 * len(used))
        assert setup.evaluation_images[0] == "train"
        np.testing.assert_array_equal(setup.evaluation_images[1], held_out)
    assert set(first.held_out) != set(second.held_out)


def test_test_images_are_never_read(setups):
    expected = list(run(setups({}), SEQUENTIAL))
    guarded = setups({})
    for setup in guarded:
        forbidden = {name: Forbidden() for name in ("test_images", "test_labels")}
        setup.__dict__["dataset"] = dataclasses.replace(setup.dataset, **forbidden)
    assert without_times(run(guarded, SEQUENTIAL)) == without_times(expected)


def test_rows_are_means_over_seeds(setups):
    both = list(run(setups({}), SEQUENTIAL))
    alone = [list(run([setup], SEQUENTIAL)) for setup in setups({})]
    assert len(both) == 3
    for row, first, second in zip(both, *alone, strict=True):
        assert row["accuracy_std"] == pytest.approx(abs(first["accuracy"] - second["accuracy"]) / 2**0.5)
        assert "accuracy_std" not in first
        for name in first.keys() - {"seconds"}:
            assert row[name] == pytest.approx((first[name] + second[name]) / 2)
        assert 1 < row["bits_left"] <= row["bits_given"] <= (2 + 4 + 8) / 3


def test_summary_counts_the_last_rounds(setups):
    rows = list(run(setups({}), SEQUENTIAL))
    found = summarize(rows, 2)
    assert found["accuracy"] == pytest.approx((rows[1]["accuracy"] + rows[2]["accuracy"]) / 2)
    assert found["bits_pruned"] == pytest.approx(found["bits_given"] - found["bits_left"])
    assert found["uplink_bytes"] == pytest.approx(sum(row["uplink_bytes"] for row in rows) / 3)
    assert found["rounds"] == 3
    assert summarize(rows[:1], 2)["accuracy"] == rows[0]["accuracy"]


def test_a_strong_lambda_prunes_bits(setups):
    def pruned(strength):
        values = {"fedmpq.lambda": strength, "training.rounds": 6}
        return summarize(list(run(setups(values), SEQUENTIAL)), 2)["bits_pruned"]

    assert pruned(0.0) < pruned(10.0)


def test_full_precision_is_32_bits(setups):
    search = {"training.lr": {"kind": "float", "low": 0.1, "high": 1.0}}
    rows = list(run(setups({"model.network": "user_models:linear"}, algorithm="fp32", search=search), SEQUENTIAL))
    found = summarize(rows, 1)
    assert found["bits_left"] == 32


def test_training_that_diverges_is_said_to(setups):
    with pytest.raises(UserError, match=r"round 1: fewer than 1 clients.*diverged"):
        list(run(setups({"training.lr": 1e30}), SEQUENTIAL))


def test_several_trials_at_a_time_in_processes_that_may_die(tmp_path, project):
    space = project.space(trials=6, workers=2, pruning=False)
    objective = Objective(space, project.root / "data/prepared/digits", SEQUENTIAL)

    def ended(trial):
        numbers.append(trial.number)
        if len(numbers) == 2:
            for process in multiprocessing.active_children():
                process.kill()

    numbers = []
    multiprocessing.set_forkserver_preload(["fedmpq.federated.worker"])  # imported once, for all processes
    with opened(tmp_path, space, {}) as study:
        search(study, objective, ended)
        assert study.left == 0
        assert sorted(numbers) == [trial.number for trial in study.trials]
        states = [trial.state for trial in study.trials]
        assert states.count(TrialState.COMPLETE) == 6
        assert set(states[6:]) <= {TrialState.FAIL, TrialState.COMPLETE}
        for trial in study.ranked[:2]:  # In whichever process, the same values give the same rounds.
            rows = list(run(objective.setups(trial.user_attrs["values"]), SEQUENTIAL))
            assert without_times(trial.user_attrs["rounds"]) == without_times(rows)
        assert len({str(trial.params) for trial in study.ranked}) == 6
    assert multiprocessing.active_children() == []


def test_processes_in_which_nothing_ends_are_given_up(tmp_path, project, monkeypatch):
    space = project.space(trials=2, workers=2)
    monkeypatch.setattr("fedmpq.tuning.search._work", exit)
    with opened(tmp_path, space, {}) as study, pytest.raises(UserError, match="try again with workers=1"):
        search(study, Objective(space, tmp_path, SEQUENTIAL), print)
