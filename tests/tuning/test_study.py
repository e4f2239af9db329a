import math

import pytest
from ruamel.yaml import YAML

from fedmpq.errors import UserError
from fedmpq.tuning import results
from fedmpq.tuning.lanes import Ended
from fedmpq.tuning.study import opened
from fedmpq.tuning.sweep import sweep

IDENTITY = {"tune.search.lr": "float 0.1 .. 1", "rounds": 3, "final_rounds": 2}
HARDWARE = {"processor": "Test CPU", "cores": 2, "device": "cpu"}


def row(number, accuracy, uplink=1000.0):
    """A round as `fedmpq.tuning.trial.run` yields it."""
    return {
        "round": number,
        "seconds": 0.1,
        "accuracy": accuracy,
        "accuracies": {"seed-0": accuracy},
        "loss": 1 - accuracy,
        "uplink_bytes": uplink,
        "downlink_bytes": 1200.0,
        "given": 4.0,
        "left": 3.5,
        "by_budget": {"4": {"given": 4.0, "left": 3.5}},
        "top_plane": 0.25,
    }


class Curves:
    """Lanes whose trials follow a function of number and experiment: the list of what comes, one after another."""

    def __init__(self, curve, workers=1):
        self.curve, self.workers, self.running = curve, workers, {}

    @property
    def free(self):
        return len(self.running) < self.workers

    def start(self, number, experiment):
        self.running[number] = iter(self.curve(number, experiment))

    def next(self):
        number = next(iter(self.running))
        event = next(self.running[number])
        if isinstance(event, Ended):
            del self.running[number]
        return number, event

    def answer(self, number, go_on):
        rounds = self.running.pop(number)
        if go_on:
            self.running[number] = rounds  # behind the others

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


def peak(number, experiment):
    """Best at lambda = 0.01, learned in three rounds."""
    accuracy = 0.9 - 0.1 * abs(math.log10(experiment.fedmpq.lambda_) + 2)
    return [*(row(n, accuracy * n / 3, 1000 * experiment.fedmpq.lambda_) for n in (1, 2, 3)), Ended()]


def run(folder, space, curve=peak, workers=1, **options):
    """Open the study, sweep, and return what `see` says of it."""
    with opened(folder, space, IDENTITY, **options) as study:
        numbers = []
        sweep(study, Curves(curve, workers), numbers.append)
        return numbers, [(trial.state.name, dict(results.values(trial))) for trial in study.trials]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_exactly_as_many_trials_as_asked_for(tmp_path, project, workers):
    numbers, trials = run(tmp_path, project.space(trials=7), workers=workers)
    assert sorted(numbers) == list(range(7))
    assert len(trials) == 7
    assert run(tmp_path, project.space(trials=7)) == ([], trials)
    numbers, more = run(tmp_path, project.space(trials=9), workers=workers)
    assert (len(numbers), more[:7]) == (2, trials)


def test_first_trial_is_what_was_there(tmp_path, project):
    _, trials = run(tmp_path, project.space(trials=2))
    assert trials[0][1] == {"fedmpq.lambda": 0.1, "fedmpq.epsilon": 0.025}


def test_a_search_that_goes_on_proposes_other_values(tmp_path, project):
    for trials in range(1, 7):
        _, found = run(tmp_path, project.space(trials=trials))
    lambdas = [values["fedmpq.lambda"] for _, values in found]
    assert len(set(lambdas)) == 6
    assert run(tmp_path / "at once", project.space(trials=6))[1] == found


def test_bad_trials_are_given_up(tmp_path, project):
    def bad_after_six(number, experiment):
        return [*(row(n, 0.2 if number > 6 else 0.3 * n) for n in (1, 2, 3)), Ended()]

    _, trials = run(tmp_path, project.space(trials=9), bad_after_six)
    assert [state for state, _ in trials] == ["COMPLETE"] * 7 + ["PRUNED"] * 2
    _, trials = run(tmp_path / "without", project.space(trials=9, pruning=False), bad_after_six)
    assert {state for state, _ in trials} == {"COMPLETE"}


@pytest.mark.parametrize(("low", "state"), [((1, 2), "COMPLETE"), ((1, 2, 3), "PRUNED"), ((4, 5, 6), "COMPLETE")])
def test_trials_are_judged_half_way_and_not_again(tmp_path, project, low, state):
    def low_after_six(number, experiment):
        return [*(row(n, 0.1 if number > 6 and n in low else 0.6) for n in range(1, 7)), Ended()]

    space = project.space(trials=8, final_rounds=1, overrides={"digits": {"rounds": 6}})
    assert run(tmp_path, space, low_after_six)[1][7][0] == state


def test_failures_have_a_reason_and_the_search_goes_on(tmp_path, project):
    def fragile(number, experiment):
        return [row(1, 0.5), Ended("the loss is nan")] if number == 1 else peak(number, experiment)

    space = project.space(trials=4)
    assert len(run(tmp_path, space, fragile)[0]) == 4
    with opened(tmp_path, space, IDENTITY) as study:
        table = results.trials_csv(study).splitlines()
        assert table[2].startswith("1,failed,")
        assert table[2].endswith("the loss is nan")
        assert study.left == 0


def test_faults_that_have_nothing_to_do_with_values_end_it(tmp_path, project):
    space = project.space(trials=9)
    with pytest.raises(UserError, match="first 3 trials failed; the last reason: no data"):
        run(tmp_path, space, lambda *_: [Ended("no data")])
    assert len(run(tmp_path, space)[0]) == 6  # once the fault is mended, it goes on


def test_values_not_allowed_together_are_a_failure(tmp_path, project):
    search = {
        "min_answers": {"kind": "int", "low": 1, "high": 3},
        "participation": {"kind": "float", "low": 0.3, "high": 1.0},
    }
    _, trials = run(tmp_path, project.space(trials=12, search=search), lambda *_: [row(1, 0.5), Ended()])
    assert {state for state, _ in trials} == {"COMPLETE", "FAIL"}


@pytest.mark.parametrize("kills", [1, 3])
def test_killed_trials_are_run_again_but_not_for_ever(tmp_path, project, kills):
    space = project.space(trials=3)
    run(tmp_path, project.space(trials=1))
    values = []
    for _ in range(kills):
        with opened(tmp_path, space, IDENTITY) as study:
            values.append(study.ask()[1])  # and no end: the process is gone
    _, trials = run(tmp_path, space)
    assert all(found == values[0] for found in values)
    given_up = kills == 3
    assert [state for state, _ in trials] == ["COMPLETE", *["FAIL"] * kills, *["COMPLETE"] * (1 if given_up else 2)]
    assert (trials[kills + 1][1] == values[0]) != given_up
    with opened(tmp_path, space, IDENTITY) as study:
        said = [results.reason(study, trial) for trial in study.trials[1 : kills + 1]]
        assert said[0] == "the search was killed; run again as trial 2"
        assert said[-1].endswith("killed") == given_up


def test_two_objectives_have_a_front(tmp_path, project):
    space = project.space(trials=12, objective="accuracy-and-bytes")
    run(tmp_path, space)
    with opened(tmp_path, space, IDENTITY) as study:
        found = results.best(study, HARDWARE)
        points = {trial.number: trial.values for trial in study.trials}
    front = {
        number
        for number, (accuracy, size) in points.items()
        if not any(a >= accuracy and s <= size and (a, s) != (accuracy, size) for a, s in points.values())
    }
    assert set(found["front"]) == front
    assert found["trial"] == max(points, key=lambda number: points[number][0])
    assert {found["trial"], *found["others"]} == front


def test_importance_finds_what_matters(tmp_path, project):
    space = project.space(trials=12, pruning=False)
    run(tmp_path, space)
    with opened(tmp_path, space, IDENTITY) as study:
        shares = results.importance(study)
        written = YAML(typ="safe").load(results.best_yaml(study, HARDWARE))
    assert written["importance"] == shares
    assert list(shares) == ["fedmpq.lambda", "fedmpq.epsilon"]
    assert sum(shares.values()) == pytest.approx(1, abs=1e-3)


def test_study_of_other_settings_is_refused(tmp_path, project):
    space = project.space(trials=2)
    _, trials = run(tmp_path, space)
    with (
        pytest.raises(UserError) as error,
        opened(tmp_path, space, IDENTITY | {"rounds": 5, "tune.search.lr": "float 0.1 .. 2"}),
    ):
        pass
    for part in (
        "rounds 3 -> 5",
        "tune.search.lr float 0.1 .. 1 -> float 0.1 .. 2",
        "EXPERIMENT=digits NEW=1",
    ):
        assert part in str(error.value)
    assert "final_rounds" not in str(error.value)
    assert run(tmp_path, space) == ([], trials)


def test_new_study_leaves_the_old_one(tmp_path, project):
    space = project.space(trials=2)
    run(tmp_path, space)
    before = (tmp_path / "study-1.journal").read_bytes()
    numbers, _ = run(tmp_path, space, new=True)
    assert numbers == [0, 1]
    assert run(tmp_path, space)[0] == []
    assert (tmp_path / "study-1.journal").read_bytes() == before
    assert (tmp_path / "study-2.journal").exists()


def test_one_process_at_a_time(tmp_path, project):
    space = project.space()
    with (
        opened(tmp_path, space, IDENTITY),
        pytest.raises(UserError, match="process"),
        opened(tmp_path, space, IDENTITY),
    ):
        pass


def test_half_a_line_at_the_end_is_cut_off(tmp_path, project):
    space = project.space(trials=3)
    _, trials = run(tmp_path, project.space(trials=2))
    with (tmp_path / "study-1.journal").open("a") as file:
        file.write('{"op_code": 4, "wor')
    numbers, found = run(tmp_path, space)
    assert numbers == [2]
    assert found[:2] == trials


def test_damaged_study_is_said_to_be(tmp_path, project):
    space = project.space()
    (tmp_path / "study-1.journal").write_text("no JSON\n" * 3)
    with pytest.raises(UserError, match=r"damaged.*NEW=1"), opened(tmp_path, space, IDENTITY):
        pass


def test_seeds_of_proposals(tmp_path, project):
    space, other = project.space(trials=3), project.space(trials=3, sampler_seed=7)
    first = run(tmp_path / "first", space)[1]
    assert run(tmp_path / "same", space)[1] == first
    assert run(tmp_path / "other", other)[1][1:] != first[1:]
