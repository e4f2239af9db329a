"""The search, on trials whose rounds are drawn by a function of their values."""

import math
from itertools import count

import pytest
from optuna.trial import TrialState

from fedmpq.config import Execution
from fedmpq.errors import UserError
from fedmpq.reporting.tuning import as_markdown
from fedmpq.reporting.tuning_figures import draw_all
from fedmpq.tuning import study as studies
from fedmpq.tuning.search import Objective, search
from fedmpq.tuning.study import opened, read_best, table, write_best

IDENTITY = {"tune.search.training.lr": "float 0.1 .. 1", "training.rounds": 3, "final_rounds": 2}


def row(accuracy, uplink=1000.0):
    """A round as `fedmpq.tuning.trial.run` yields it."""
    return {
        "accuracy": accuracy,
        "loss": 1 - accuracy,
        "bits_given": 4.0,
        "bits_left": 3.5,
        "uplink_bytes": uplink,
        "downlink_bytes": 1200.0,
        "seconds": 0.1,
    }


def peak(number, values):
    """Best at lambda = 0.01, learned in three rounds."""
    accuracy = 0.9 - 0.1 * abs(math.log10(values["fedmpq.lambda"]) + 2)
    return [row(accuracy * n / 3, 1000 * values["fedmpq.lambda"]) for n in (1, 2, 3)]


def failing(number, values):
    """No trial has a value."""
    raise UserError("no data")


@pytest.fixture
def run(tmp_path, project, monkeypatch):
    """Search with curves for rounds; returns the ended trials as (state, values)."""

    def run(curve=peak, folder="studies", new=False, **tune):
        space, numbers = project.space(**tune), count()
        monkeypatch.setattr(Objective, "setups", lambda self, values: space.experiment(values) and values)
        monkeypatch.setattr("fedmpq.tuning.search.run", lambda values, execution: iter(curve(next(numbers), values)))
        with opened(tmp_path / folder, space, IDENTITY, new) as study:
            run.ended = []
            search(study, Objective(space, tmp_path, Execution()), run.ended.append)
            return [(trial.state.name, trial.user_attrs["values"]) for trial in study.trials]

    return run


@pytest.fixture
def reopened(tmp_path, project):
    """The study that `run` has left."""

    def reopened(**tune):
        return opened(tmp_path / "studies", project.space(**tune), IDENTITY)

    return reopened


def test_exactly_as_many_trials_as_asked_for(run):
    trials = run(trials=7)
    assert [trial.number for trial in run.ended] == list(range(7))
    assert run(trials=7) == trials
    assert run.ended == []
    assert run(trials=9)[:7] == trials
    assert len(run.ended) == 2


def test_first_trial_is_what_was_there(run):
    assert run(trials=2)[0][1] == {"fedmpq.lambda": 0.1, "fedmpq.epsilon": 0.025}
    outside = {"training.lr": {"kind": "float", "low": 0.2, "high": 1.0}}
    assert run(lambda *_: [row(0.5)], "outside", trials=1, search=outside)[0][1]["training.lr"] > 0.2


def test_a_search_that_goes_on_proposes_other_values(run):
    for trials in range(1, 11):
        found = run(trials=trials)
    assert len({values["fedmpq.lambda"] for _, values in found}) == 10
    assert run(folder="at once", trials=10) == found
    assert run(folder="other seed", trials=10, sampler_seed=7)[1:] != found[1:]


def test_bad_trials_are_given_up(run):
    def bad_after_six(number, values):
        return [row(0.2 if number > 6 else 0.3 * n) for n in (1, 2, 3)]

    states = [state for state, _ in run(bad_after_six, trials=9)]
    assert states == ["COMPLETE"] * 7 + ["PRUNED"] * 2
    for without in ({"pruning": False}, {"objective": "accuracy-and-bytes"}):
        found = run(bad_after_six, f"without {without}", trials=9, **without)
        assert {state for state, _ in found} == {"COMPLETE"}


@pytest.mark.parametrize(("low", "state"), [((1, 2), "COMPLETE"), ((1, 2, 3), "PRUNED"), ((4, 5, 6), "COMPLETE")])
def test_trials_are_judged_half_way_and_not_again(run, low, state):
    def low_after_six(number, values):
        return [row(0.1 if number > 6 and n in low else 0.6) for n in range(1, 7)]

    found = run(low_after_six, trials=8, final_rounds=1, overrides={"digits": {"training.rounds": 6}})
    assert found[7][0] == state


def test_failures_have_a_reason_and_the_search_goes_on(run, reopened):
    def fragile(number, values):
        yield from peak(number, values)[: 1 if number == 1 else 3]
        if number == 1:
            raise ArithmeticError("a fault\nof the program\nin its last line")

    assert [state for state, _ in run(fragile, trials=4)] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    with reopened(trials=4) as study:
        assert study.left == 0
        last = table(study).iloc[-1]
        assert (last["trial"], last["state"], last["rounds"]) == (1, "fail", 1)
        assert last["reason"] == "ArithmeticError: a fault in its last line"


def test_faults_that_have_nothing_to_do_with_values_end_it(run):
    with pytest.raises(UserError, match="first 3 trials failed; the last reason: no data"):
        run(failing, trials=9)
    assert len(run(trials=9)) == 9
    assert len(run.ended) == 6  # Once the fault is mended, it goes on.


def test_values_not_allowed_together_are_a_failure(run):
    together = {
        "participation.min_answers": {"kind": "int", "low": 1, "high": 3},
        "participation.share": {"kind": "float", "low": 0.3, "high": 1.0},
    }
    found = run(lambda *_: [row(0.5)], trials=12, search=together)
    assert {state for state, _ in found} == {"COMPLETE", "FAIL"}


@pytest.mark.parametrize("kills", [1, 3])
def test_killed_trials_are_run_again_but_not_for_ever(run, reopened, kills):
    def killed(number, values):
        yield row(0.5)
        raise SystemExit  # Optuna does not catch it: the trial stays as it would be if the process were gone.

    run(trials=1)
    for _ in range(kills):
        with pytest.raises(SystemExit):
            run(killed, trials=3)
    found = run(trials=3)
    assert [state for state, _ in found] == ["COMPLETE", *["FAIL"] * kills, "COMPLETE", "COMPLETE"]
    values = [values for _, values in found]
    assert all(value == values[1] for value in values[1 : kills + 1])
    assert (values[kills + 1] == values[1]) == (kills < studies.MAX_ATTEMPTS)
    with reopened(trials=3) as study:
        assert study.settled == 3


def test_two_objectives_have_a_front(run, reopened):
    two = {"trials": 12, "objective": "accuracy-and-bytes"}
    run(**two)
    with reopened(**two) as study:
        points = {trial.number: trial.values for trial in study.trials}
        ranked = [trial.number for trial in study.ranked]
        assert "pareto-front" in draw_all(study.optuna, table(study), study.space.search, "note")
    front = {
        number
        for number, (accuracy, size) in points.items()
        if not any(a >= accuracy and s <= size and (a, s) != (accuracy, size) for a, s in points.values())
    }
    assert len(front) < 12
    assert set(ranked[: len(front)]) == front
    assert ranked[0] == max(points, key=lambda number: points[number][0])


def test_figures_and_section(run, reopened):
    chosen = {
        "fedmpq.lambda": {"kind": "float", "low": 1e-5, "high": 10.0, "log": True},
        "fedmpq.aggregation": {"kind": "categorical", "choices": ["weights", "updates"]},
    }
    run(trials=12, pruning=False, search=chosen)
    with reopened(trials=12, pruning=False, search=chosen) as study:
        trials, space = table(study), study.space
        figures = draw_all(study.optuna, trials, space.search, "small print")
    assert list(figures) == ["accuracy-over-lambda", "importance", "history"]
    labels = [label.get_text() for label in figures["importance"].axes[0].get_yticklabels()]
    assert labels[-1] == "fedmpq.lambda"  # at the top: it matters, the other one does not
    upper, pruned = figures["accuracy-over-lambda"].axes
    assert (upper.get_xscale(), pruned.get_ylabel()) == ("log", "bits\npruned per weight")
    assert all(figure.texts or figure._supxlabel for figure in figures.values())
    text = as_markdown(trials, space.search, space.fixed, figures)
    assert "weights | updates" in text
    assert "](tuning/importance.png)" in text


def test_best_values_are_written_with_the_best_first(run, reopened, tmp_path):
    run(trials=5)
    with reopened(trials=5) as study:
        write_best(study, tmp_path / "best.yaml")
        found = read_best(tmp_path / "best.yaml")
        assert found == {trial.number: trial.user_attrs["values"] for trial in study.ranked}
    assert min(found.values(), key=lambda values: abs(math.log10(values["fedmpq.lambda"]) + 2)) == next(
        iter(found.values())
    )
    (tmp_path / "best.yaml").write_text("1: [")
    with pytest.raises(UserError, match=r"no best values .*; remove .* and: make tune"):
        read_best(tmp_path / "best.yaml")


def test_study_of_other_settings_is_refused(run, tmp_path, project):
    trials = run(trials=2)
    other = IDENTITY | {"training.rounds": 5, "tune.search.training.lr": "float 0.1 .. 2"}
    with (
        pytest.raises(UserError) as error,
        opened(tmp_path / "studies", project.space(trials=2), other),
    ):
        pass
    for part in (
        "training.rounds 3 -> 5",
        "tune.search.training.lr float 0.1 .. 1 -> float 0.1 .. 2",
        "EXPERIMENT=digits NEW=1",
    ):
        assert part in str(error.value)
    assert "final_rounds" not in str(error.value)
    assert run(trials=2) == trials


def test_new_study_leaves_the_old_one(run, tmp_path):
    run(trials=2)
    before = (tmp_path / "studies/study-1.journal").read_bytes()
    run(trials=2, new=True)
    assert [trial.number for trial in run.ended] == [0, 1]
    run(trials=2)
    assert run.ended == []
    assert (tmp_path / "studies/study-1.journal").read_bytes() == before
    assert (tmp_path / "studies/study-2.journal").exists()


def test_one_process_at_a_time(reopened):
    with reopened(), pytest.raises(UserError, match="process"), reopened():
        pass


def test_half_a_line_at_the_end_is_cut_off(run, tmp_path):
    trials = run(trials=2)
    with (tmp_path / "studies/study-1.journal").open("a") as file:
        file.write('{"op_code": 4, "wor')
    assert run(trials=3)[:2] == trials
    assert [trial.number for trial in run.ended] == [2]


def test_damaged_study_is_said_to_be(run, tmp_path):
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies/study-1.journal").write_text("no JSON\n" * 3)
    with pytest.raises(UserError, match=r"damaged.*NEW=1"):
        run()


def test_a_trial_that_runs_is_recovered_by_the_next_call_only(run, reopened):
    run(trials=1)
    with reopened(trials=2) as study:
        study.optuna.ask()
        assert study.left == 1
    with reopened(trials=2) as study:
        assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.FAIL]
        assert study.left == 1
