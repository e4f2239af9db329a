"""Sections, overrides, names, and what is derived from them."""

import re

import pytest

from fedmpq.config import GROUPS, parse_overrides
from fedmpq.errors import UserError

# Variants, and algorithms from outside


def section(**keys):
    return {"digits.mine": {"of": "fedmpq", "lambda": 0.3, "epsilon": 0.02, **keys}}


@pytest.mark.parametrize("of", ["fp32", "uveqfed", "package.module:Class"])
def test_a_section_of_any_name_is_an_algorithm_by_what_it_is_of(load, of):
    experiment = load({"digits.my-Own_2": {"of": of}, "algorithms": ["my-Own_2"]}).experiment("digits")
    assert experiment.algorithm("my-Own_2").of == experiment.flat("my-Own_2")["of"] == of
    assert experiment.algorithm("fp32").of == "fp32"
    assert [*experiment.tree()] == [*GROUPS, *experiment.algorithms]
    assert experiment.tree()["my-Own_2"]["of"] == of


def test_settings_of_a_variant_are_checked_as_those_of_its_algorithm(load):
    variant = load(section()).experiment("digits").algorithm("mine")
    assert (variant.lambda_, variant.epsilon, variant.min_bits) == (0.3, 0.02, 1)
    own = load({"digits.mine": {"of": "a.b:C", "sharpness": [1]}}).experiment("digits").flat("mine")
    assert own["sharpness"] == [1]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (section(of="fedmqp"), r"digits\.mine\.of: 'fedmqp' is not allowed; allowed: fp32, .*package\.module:Class"),
        (section(of=3), r"digits\.mine\.of: 3 is not allowed; "),
        (section(of=None), r"digits\.mine\.of: None is not allowed; "),
        (section(epsilon=2), r"digits\.mine\.epsilon: 2 is not allowed; allowed: .*1"),
        (section(min_bits=3), r"digits\.mine\.min_bits: 3 is not allowed; allowed: 1 to 2, the smallest budget"),
        (section(lamda=2), r"unknown key 'digits\.mine\.lamda' \(value 2\); allowed there: .*lambda"),
        (
            {"digits.mine": {"of": "fp32", "lambda": 1}},
            r"unknown key 'digits\.mine\.lambda' \(value 1\); .*: of, aggregation, quantizer$",
        ),
        ({"digits.mine": {"of": "fedmpq"}}, r"digits\.mine\.lambda is missing; digits\.mine\.epsilon is missing"),
        ({"digits.mine": {"of": "a:B", "quantizer": "x"}}, r"digits\.mine\.quantizer: 'x' is not allowed"),
        (
            {"digits.mine": {"of": "a:B", "alpha": 1}},
            r"digits\.mine\.alpha: 1 is not allowed; allowed: another name; every run has this",
        ),
        (
            {"digits.mine": {"of": "a:B", "seed": 1}},
            r"digits\.mine\.seed: 1 is not allowed; allowed: another name; every run has this",
        ),
        ({"digits.mine": {"lambda": 1}}, r"unknown key 'digits\.mine'"),
        ({"digits.fp32": [1]}, r"digits\.fp32: \[1\] is not allowed; allowed: a group of keys"),
        ({"digits.algorithms": ["fp32"]}, r"unknown key 'digits\.algorithms' \(value \['fp32'\]\)"),
        ({"digits.algorithms": {}}, r"unknown key 'digits\.algorithms' \(value {}\)"),
    ],
)
def test_a_section_that_is_no_algorithm_is_refused_by_its_own_name(refused, overrides, said):
    assert re.match(f"params.yaml: {said}", refused(overrides)), refused(overrides)


@pytest.mark.parametrize("name", ["digits-v1.1", "my digits", "-x", "2024", "Größe", 7])
def test_names_that_dvc_cannot_use_are_refused(refused, edited, name):
    said = f"{name}: {name!r} is not allowed; allowed: a name of letters, digits, - and _, a letter first"
    path = edited(lambda tree: tree["digits"].update({name: {"of": "fp32"}}))
    assert refused({}, path) == f"params.yaml: digits.{said}"
    assert f"params.yaml: {said}" in refused({}, edited(lambda tree: tree.update({name: tree["digits"]})))


def test_settings_of_ones_own_algorithm_are_its_own_business(load):
    """What is checked of FedMPQ (min_bits against budgets) is not of another algorithm's key of that name."""
    parameters = load({"digits.mine": {"of": "a:B", "min_bits": "few"}})
    assert parameters.experiment("digits").flat("mine")["min_bits"] == "few"


# Overrides


def test_overrides_by_dotted_key(load, parameters):
    changed = load({"digits.fedmpq.lambda": 0.7, "digits.training.rounds": 3, "alphas": [1]})
    experiment = changed.experiment("digits")
    assert (experiment.algorithm("fedmpq").lambda_, experiment.training.rounds, changed.alphas) == (0.7, 3, [1])
    original = parameters.experiment("digits")
    assert experiment.model_copy(update={k: getattr(original, k) for k in ("training", "algorithms")}) == original
    others = {**experiment.algorithms, "fedmpq": None}
    assert others == {**original.algorithms, "fedmpq": None}
    assert changed.experiment("cifar10") == parameters.experiment("cifar10")


@pytest.mark.parametrize(
    "key", ["digit.training.rounds", "digits.fedmq.lambda", "digits.training.rounds.x", "digits.fedmpq.lambda.x"]
)
def test_an_override_below_what_is_no_section_is_refused(refused, key):
    assert refused({key: 1}).startswith(f"params.yaml: unknown key '{key}': there is no section")


@pytest.mark.parametrize(
    ("assignment", "key", "value"),
    [
        ("training.rounds=3", "digits.training.rounds", 3),
        ("training.lr = 0.5", "digits.training.lr", 0.5),
        ("training.lr=1e-3", "digits.training.lr", 0.001),
        ("fedmpq.lambda=1", "digits.fedmpq.lambda", 1),
        ("model.activation_bits=null", "digits.model.activation_bits", None),
        ("data.flip=true", "digits.data.flip", True),
        ("model.network=a.b:c", "digits.model.network", "a.b:c"),
        ("model.network=a=b", "digits.model.network", "a=b"),
    ],
)
def test_assignments_have_yaml_values(assignment, key, value):
    assert parse_overrides([assignment], "digits") == {key: value}


def test_seeds_by_hand_are_all_seeds(load):
    assigned = parse_overrides(["partition.seeds=[4, 5]"], "digits")
    experiment = load({"digits.partition.more_seeds": {0.5: [5, 7]}} | assigned).experiment("digits")
    assert experiment.at(0.5).partition.seeds == [4, 5]


@pytest.mark.parametrize("assignment", ["training.rounds", "", "seeds=[1", "model={a: 1", "model='x", "training.lr=@"])
def test_an_assignment_that_is_none_is_refused(assignment):
    with pytest.raises(UserError, match=rf"^override {re.escape(repr(assignment))}: .*KEY=VALUE"):
        parse_overrides([assignment], "digits")


def test_an_assignment_without_a_value_is_refused(refused):
    refused(parse_overrides(["training.rounds="], "digits"))
    refused(parse_overrides(["=3"], "digits"))


# Names and derived values


def test_more_seeds_are_trained_at_their_alpha_alone_and_change_nothing_else(load, parameters):
    original = parameters.experiment("digits")
    more = load({"digits.partition.seeds": [4], "digits.partition.more_seeds": {0.5: [7, 2], 1: [9]}})
    experiment = more.experiment("digits")
    assert [experiment.at(alpha).partition.seeds for alpha in (0.1, 0.5, 1.0)] == [[4], [4, 7, 2], [4, 9]]
    assert experiment.at(0.5).at(0.5) == experiment.at(0.5)
    assert experiment.at(0.5).flat("fedmpq") == experiment.flat("fedmpq") == original.flat("fedmpq")


def test_alpha_labels_are_written_as_in_the_file(load):
    parameters = load({"alphas": [0.1, 1, 5.0]})
    assert [parameters.alpha_label(alpha) for alpha in (0.1, 1.0, 1, 5, 0.5, 2.0)] == [
        "0.1",
        "1",
        "1",
        "5.0",
        "0.5",
        "2",
    ]


@pytest.mark.parametrize("alpha", [0, -1, float("nan"), float("inf"), -0.0])
def test_an_alpha_that_is_no_concentration_is_refused(refused, parameters, alpha):
    with pytest.raises(UserError, match=rf"^alpha: {alpha} is not allowed; allowed: a number above 0"):
        parameters.alpha_label(alpha)
    assert "alphas.0: " in refused({"alphas": [alpha]})


def test_unknown_names_are_refused_with_those_there_are(parameters):
    with pytest.raises(UserError, match=r"unknown experiment 'mnist'; allowed: digits, fashion-mnist, cifar10"):
        parameters.experiment("mnist")
    with pytest.raises(UserError, match=r"unknown algorithm 'sgd'; allowed: fp32, fpq8, aqfl, fedmpq, fedmpq_plus, "):
        parameters.experiment("digits").algorithm("sgd")


@pytest.mark.parametrize(("share", "asked"), [(1.0, 10), (0.25, 3), (0.24, 2), (0.05, 1), (0.001, 1), (0.35, 4)])
def test_clients_asked_in_a_round(load, share, asked):
    assert load({"digits.participation.share": share}).experiment("digits").asked == asked


def test_flat_parameters_are_those_that_determine_the_run(parameters):
    experiment = parameters.experiment("digits")
    flat = experiment.flat("fedmpq")
    assert flat["lambda"] == 0.1
    assert flat["model.budgets"] == [2, 2, 4, 4, 4, 6, 6, 6, 8, 8]
    keys = {f"{group}.{key}" for group, model in GROUPS.items() for key in model.model_fields}
    shared = keys - {"partition.seeds", "partition.more_seeds", "data.validation"}
    assert set(flat) == {"of", "aggregation", "uplink", "lambda", "epsilon", "min_bits"} | shared
    assert set(experiment.flat("fp32")) == {"of", "aggregation"} | shared


@pytest.mark.parametrize(
    ("own", "in_force"), [(None, "full-range"), ("full-range", "full-range"), ("normal", "normal")]
)
def test_the_quantizer_that_is_recorded_is_the_one_in_force(load, own, in_force):
    overrides = {"digits.fedmpq.quantizer": own, "digits.model.quantizer": "full-range"}
    experiment = load(overrides).experiment("digits")
    assert experiment.quantizer("fedmpq") == in_force
    flat = experiment.flat("fedmpq")
    assert flat["model.quantizer"] == in_force
    assert "quantizer" not in flat
    assert experiment.flat("aqfl")["model.quantizer"] == "full-range"


def test_parameters_cannot_be_changed_by_accident(parameters):
    with pytest.raises(ValueError, match="frozen"):
        parameters.experiment("digits").training.rounds = 3
