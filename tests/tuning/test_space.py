import pytest

from fedmpq.config import load_parameters
from fedmpq.errors import UserError
from fedmpq.tuning.space import Space

FLOAT = {"kind": "float", "low": 0.1, "high": 1.0}


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"fedmpq.lamda": FLOAT}, ["fedmpq.lamda", "allowed: ", "fedmpq.lambda"]),
        ({"fp32.aggregation": FLOAT}, ["fp32.aggregation", "fedmpq.aggregation"]),
        ({"rounds": {"kind": "int", "low": 1, "high": 3}}, ["rounds", "allowed: "]),
        ({"lr": FLOAT | {"low": 2}}, ["tune.search.lr.low: 2 ", "high, 1"]),
        ({"lr": FLOAT | {"low": 0, "log": True}}, ["tune.search.lr.low: 0 ", "above 0"]),
        ({"lr": {"kind": "float", "low": 0.1}}, ["tune.search.lr.high is missing"]),
        ({"lr": FLOAT | {"kind": "real"}}, ["tune.search.lr.kind: 'real'", "'float', 'int' or 'categorical'"]),
        ({"lr": FLOAT | {"step": 1}}, ["tune.search.lr.step", "kind, low, high, log, choices"]),
        ({"lr": FLOAT | {"choices": [1]}}, ["tune.search.lr.choices", "low, high, log"]),
        (
            {"local_epochs": {"kind": "int", "low": 1.5, "high": 3}},
            ["local_epochs.low: 1.5", "whole number"],
        ),
        ({"local_epochs": {"kind": "float", "low": 1.5, "high": 3}}, ["local_epochs: 1.5", "integer"]),
        ({"fedmpq.epsilon": FLOAT | {"high": 2}}, ["fedmpq.epsilon: 2", "less than or equal to 1"]),
        ({"fedmpq.min_bits": {"kind": "int", "low": 1, "high": 4}}, ["fedmpq.min_bits: 4", "1 to 2"]),
        ({"averaging": {"kind": "categorical"}}, ["tune.search.averaging.choices: []", "two or more"]),
        ({"averaging": {"kind": "categorical", "choices": ["samples", "samples"]}}, ["choices", "different values"]),
        ({"averaging": {"kind": "categorical", "choices": ["samples", "size"]}}, ["averaging: 'size'", "'uniform'"]),
        ({"averaging": {"kind": "categorical", "choices": ["samples", "uniform"], "low": 1}}, ["low", "choices"]),
        ({}, ["tune.search"]),
    ],
)
def test_search_that_is_not_possible(project, search, said):
    with pytest.raises(UserError) as error:
        project.space(search=search)
    assert "\n" not in str(error.value)
    assert [part for part in said if part not in str(error.value)] == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"algorithm": "fedmqp"}, ["tune: ", "'fedmqp'", "fedmpq"]),
        ({"alpha": 0.0}, ["tune: alpha: 0.0", "above 0"]),
        ({"trials": 0}, ["tune.trials: 0"]),
        ({"objective": "bytes"}, ["tune.objective: 'bytes'", "'accuracy-and-bytes'"]),
        ({"overrides": {"digit": {"rounds": 1}}}, ["tune: ", "'digit'", "digits"]),
        ({"overrides": {"digits": {"round": 1}}}, ["tune.overrides.digits", "digits.round", "rounds"]),
        ({"overrides": {"digits": {"image_size": 16}}}, ["tune.overrides.digits: data and image_size"]),
        ({"trails": 3}, ["tune.trails", "trials"]),
    ],
)
def test_settings_that_are_not_possible(project, changes, said):
    with pytest.raises(UserError) as error:
        project.space(**changes)
    assert [part for part in said if part not in str(error.value)] == []


def test_without_a_section(project):
    parameters = load_parameters(project.file).model_copy(update={"tune": None})
    with pytest.raises(UserError, match="no section 'tune'"):
        Space(parameters, None)


def test_any_kind_of_parameter_can_be_searched(project):
    space = project.space(
        search={
            "lr": FLOAT,
            "local_epochs": {"kind": "int", "low": 1, "high": 3},
            "fedmpq.aggregation": {"kind": "categorical", "choices": ["weights", "updates"]},
            "activation_bits": {"kind": "categorical", "choices": [4, None]},
        }
    )
    values = {"lr": 0.5, "local_epochs": 2, "fedmpq.aggregation": "updates", "activation_bits": 4}
    tried = space.experiment(values)
    assert {key: tried.flat("fedmpq")[key] for key in values} == values
    assert not values.keys() & space.fixed.keys()


def test_overrides_shorten_trials_and_nothing_else(project):
    space = project.space(overrides={"digits": {"rounds": 2, "seeds": [5]}})
    tried, whole = space.experiment({"fedmpq.lambda": 3.0}), space.parameters.experiment("digits")
    assert (tried.rounds, tried.seeds, tried.fedmpq.lambda_) == (2, [5], 3.0)
    assert tried == whole.model_copy(
        update={"rounds": 2, "seeds": [5], "fedmpq": whole.fedmpq.model_copy(update={"lambda_": 3.0})}
    )


def test_what_is_tried_is_what_is_written(project):
    space = project.space()
    assert space.tidy({"fedmpq.lambda": 1.23456e-5, "fedmpq.epsilon": 0.0999999}) == {
        "fedmpq.lambda": 1.235e-5,
        "fedmpq.epsilon": 0.1,
    }
    low = {"kind": "float", "low": 0.12344, "high": 0.2}
    assert project.space(search={"lr": low}).tidy({"lr": 0.12344}) == {"lr": 0.12344}


def test_present_values_only_within_the_search(project):
    assert project.space().present() == {"fedmpq.lambda": 0.1, "fedmpq.epsilon": 0.025}
    assert project.space(search={"lr": FLOAT | {"low": 0.2}}).present() is None
