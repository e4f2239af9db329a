import optuna
import pytest

from fedmpq.config import load_parameters
from fedmpq.errors import UserError
from fedmpq.tuning.space import Space

FLOAT = {"kind": "float", "low": 0.1, "high": 1.0}
LR, EPOCHS, AVERAGING = "training.lr", "training.local_epochs", "training.averaging"


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"fedmpq.lamda": FLOAT}, ["fedmpq.lamda", "allowed: ", "fedmpq.lambda"]),
        ({"fp32.aggregation": FLOAT}, ["fp32.aggregation", "fedmpq.aggregation"]),
        ({"lr": FLOAT}, ["unknown parameter 'lr'", LR]),
        ({"training.rounds": {"kind": "int", "low": 1, "high": 3}}, ["training.rounds", "allowed: "]),
        ({LR: FLOAT | {"low": 2}}, ["tune.search.training.lr.low: 2.0 ", "high, 1"]),
        ({LR: FLOAT | {"low": 0, "log": True}}, ["tune.search.training.lr.low: 0.0 ", "above 0"]),
        ({LR: {"kind": "float", "low": 0.1}}, ["tune.search.training.lr.low: 0.1 ", "a number below high"]),
        ({LR: FLOAT | {"high": None}}, ["tune.search.training.lr.high: None"]),
        ({LR: FLOAT | {"kind": "real"}}, ["tune.search.training.lr.kind: 'real'", "'float', 'int' or 'categorical'"]),
        ({LR: FLOAT | {"step": 1}}, ["tune.search.training.lr.step", "kind, low, high, log, choices"]),
        ({LR: FLOAT | {"choices": [1]}}, ["tune.search.training.lr.choices", "low, high, log"]),
        ({EPOCHS: {"kind": "int", "low": 1.5, "high": 3}}, ["local_epochs.low: 1.5", "whole numbers"]),
        ({EPOCHS: {"kind": "float", "low": 1.5, "high": 3}}, ["local_epochs: 1.5", "integer"]),
        ({"fedmpq.epsilon": FLOAT | {"high": 2}}, ["fedmpq.epsilon: 2", "less than or equal to 1"]),
        ({"fedmpq.min_bits": {"kind": "int", "low": 1, "high": 4}}, ["fedmpq.min_bits: 4", "1 to 2"]),
        ({AVERAGING: {"kind": "categorical"}}, ["tune.search.training.averaging.choices: []", "different values"]),
        ({AVERAGING: {"kind": "categorical", "choices": ["samples", "samples"]}}, ["choices", "different values"]),
        ({AVERAGING: {"kind": "categorical", "choices": ["samples", "size"]}}, ["averaging: 'size'", "'uniform'"]),
        ({AVERAGING: {"kind": "categorical", "choices": ["samples", "uniform"], "low": 1}}, ["low", "choices"]),
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
        ({"algorithm": "fedmqp"}, ["'fedmqp'", "fedmpq"]),
        ({"alpha": 0.0}, ["tune.alpha: 0.0", "greater than 0"]),
        ({"trials": 0}, ["tune.trials: 0"]),
        ({"objective": "bytes"}, ["tune.objective: 'bytes'", "'accuracy-and-bytes'"]),
        ({"experiment": "digit"}, ["'digit'", "digits"]),
        ({"overrides": {"digit": {"training.rounds": 1}}}, ["'digit'", "digits"]),
        ({"overrides": {"digits": {"training.round": 1}}}, ["tune.overrides.digits", "training.round", "rounds"]),
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
        Space(parameters)


def test_any_kind_of_parameter_can_be_searched(project):
    space = project.space(
        search={
            LR: FLOAT,
            EPOCHS: {"kind": "int", "low": 1, "high": 3},
            "fedmpq.aggregation": {"kind": "categorical", "choices": ["weights", "updates"]},
            "model.activation_bits": {"kind": "categorical", "choices": [4, None]},
        }
    )
    values = {LR: 0.5, EPOCHS: 2, "fedmpq.aggregation": "updates", "model.activation_bits": 4}
    assert space.suggest(optuna.trial.FixedTrial(values)) == values
    tried = space.experiment(values)
    assert (tried.training.lr, tried.training.local_epochs) == (0.5, 2)
    assert (tried.algorithm("fedmpq").aggregation, tried.model.activation_bits) == ("updates", 4)
    assert not values.keys() & space.fixed.keys()
    assert {"fedmpq.lambda", "partition.seeds", "data.validation", "training.rounds"} <= space.fixed.keys()


def test_a_quantizer_is_searched_where_it_is_in_force(project):
    choice = {"kind": "categorical", "choices": ["full-range", "normal"]}
    space = project.space(algorithm="fedmpq_plus", search={"fedmpq_plus.quantizer": choice})
    assert space.present["fedmpq_plus.quantizer"] == "normal"
    assert space.experiment({"fedmpq_plus.quantizer": "full-range"}).quantizer("fedmpq_plus") == "full-range"
    with pytest.raises(UserError, match=r"unknown parameter 'model\.quantizer'"):
        project.space(algorithm="fedmpq_plus", search={"model.quantizer": choice})


def test_overrides_shorten_trials_and_nothing_else(project):
    space = project.space(overrides={"digits": {"training.rounds": 2, "partition.seeds": [5]}})
    tried, whole = space.experiment({"fedmpq.lambda": 3.0}), load_parameters(project.file)
    assert (tried.training.rounds, tried.partition.seeds, tried.algorithm("fedmpq").lambda_) == (2, [5], 3.0)
    assert tried == whole.varied("digits", {"training.rounds": 2, "partition.seeds": [5], "fedmpq.lambda": 3.0})


@pytest.mark.parametrize(("low", "proposed", "tried"), [(1e-5, 1.23456e-5, 1.235e-5), (0.12344, 0.12344, 0.12344)])
def test_what_is_tried_is_what_is_written(project, low, proposed, tried):
    space = project.space(search={LR: {"kind": "float", "low": low, "high": 0.2}})
    assert space.suggest(optuna.trial.FixedTrial({LR: proposed})) == {LR: tried}
