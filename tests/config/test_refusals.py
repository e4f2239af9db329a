"""What is no set of parameters, and how it is refused: in one line that names key, value and what is allowed."""

import re

import pytest

from fedmpq.config import GROUPS, load_parameters
from fedmpq.errors import UserError


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("data.image_size", 7, "8"),
        ("data.image_size", 513, "512"),
        ("data.train_samples", 0, "1"),
        ("data.test_samples", 0, "1"),
        ("data.validation", 0, "greater than 0"),
        ("data.validation", 1.0, "less than 1"),
        ("data.flip", "maybe", "boolean"),
        ("data.flip", 1, "boolean"),
        ("data.crop_padding", -1, "0"),
        ("partition.clients", 0, "1"),
        ("partition.clients", 2.5, "integer"),
        ("partition.min_samples", 0, "1"),
        ("partition.max_redraws", -1, "0"),
        ("model.network", "", "1 character"),
        ("data.source", "no/such/place", "pattern"),
        ("data.source", "", "pattern"),
        ("model.activation_bits", 0, "1"),
        ("model.activation_bits", 9, "8"),
        ("model.quantizer", "best", "'full-range' or 'normal'"),
        ("partition.seeds", [], "1 item"),
        ("partition.more_seeds", [3], "dictionary"),
        ("training.rounds", 0, "1"),
        ("training.rounds", "ten", "integer"),
        ("training.rounds", True, "integer"),
        ("training.rounds", None, "integer"),
        ("participation.share", 0, "greater than 0"),
        ("participation.share", 1.1, "less than or equal to 1"),
        ("participation.min_answers", 0, "1"),
        ("participation.min_answers", 11, "1 to 10"),
        ("participation.max_repeats", -1, "0"),
        ("participation.dropout", 1.0, "less than 1"),
        ("participation.dropout", -0.1, "0"),
        ("participation.deadline", 0, "greater than 0"),
        ("participation.images_per_second", 0, "greater than 0"),
        ("participation.bandwidth", -5, "greater than 0"),
        ("participation.speed_spread", -1, "0"),
        ("training.averaging", "median", "'samples' or 'uniform'"),
        ("training.local_epochs", 0, "1"),
        ("training.batch_size", 0, "1"),
        ("training.lr", 0, "greater than 0"),
        ("training.lr", -0.1, "greater than 0"),
        ("training.lr", float("nan"), "finite number"),
        ("training.lr", float("inf"), "finite number"),
        ("training.lr", "0.1", "number"),
        ("training.momentum", 1.0, "less than 1"),
        ("training.weight_decay", -1, "0"),
        ("training.precision", "float16", "'auto', 'float32' or 'bfloat16'"),
        ("training.evaluate_quantized", "yes", "integer"),
        ("fp32.aggregation", "median", "'weights' or 'updates'"),
        ("fedmpq.lambda", -0.1, "0"),
        ("fedmpq.lambda", "strong", "number"),
        ("fedmpq.epsilon", 1.1, "1"),
        ("fedmpq.min_bits", 0, "1"),
        ("fedmpq.min_bits", 9, "8"),
        ("fedmpq.min_bits", 3, "1 to 2"),
        ("pruning.min_bits", 3, "1 to 2"),
    ],
)
def test_a_value_that_is_not_allowed_is_named_with_its_key_and_what_is(refused, key, value, allowed):
    message = refused({f"digits.{key}": value})
    assert message.startswith(f"params.yaml: digits.{key}: ")
    assert str(value) in message
    assert re.search(rf"allowed: .*{re.escape(allowed)}", message)


@pytest.mark.parametrize(
    ("overrides", "pieces"),
    [
        ({"digits.model.budgets": [2, 2]}, ["digits.model.budgets: [2.0, 2.0]", "each of the 10 clients"]),
        ({"digits.model.budgets": [4] * 11}, ["digits.model.budgets: [4.0, ", "each of the 10 clients"]),
        ({"digits.partition.clients": 9}, ["digits.model.budgets: [2.0, ", "each of the 9 clients"]),
        ({"digits.model.budgets": [0.5] + [4] * 9}, ["digits.model.budgets.0", "0.5", "greater than or equal to 1"]),
        ({"digits.model.budgets": [4] * 9 + [8.5]}, ["digits.model.budgets.9", "8.5", "less than or equal to 8"]),
        ({"digits.partition.seeds": [0, 1, 0]}, ["digits.partition.seeds", "[0, 1, 0]", "different seeds"]),
        ({"digits.partition.more_seeds": {0.5: [3, 3]}}, ["digits.partition.more_seeds.0.5", "[3, 3]", "different"]),
        ({"digits.partition.more_seeds": {1: [0]}}, ["digits.partition.more_seeds.1", "[0]", "none of [0, 1"]),
        ({"digits.partition.more_seeds": {0: [3]}}, ["digits.partition.more_seeds.0: 0 ", "greater than 0"]),
        ({"digits.partition.more_seeds": {1: [-3]}}, ["digits.partition.more_seeds.1.0", "-3", "than or equal to 0"]),
        ({"digits.partition.seeds": [0, -1]}, ["digits.partition.seeds.1", "-1", "greater than or equal to 0"]),
        (
            {"digits.participation.share": 0.2, "digits.participation.min_answers": 3},
            ["digits.participation.min_answers", "3", "1 to 2"],
        ),
        ({"digits.fedmpq": 3}, ["digits.fedmpq: 3", "a group of keys"]),
        ({"digits.training": 3}, ["digits.training: 3", "group of the keys rounds, local_epochs"]),
        ({"alphas": []}, ["alphas", "at least 1 item"]),
        ({"alphas": [0.1, 0]}, ["alphas.1: 0 ", "greater than 0"]),
        ({"alphas": [-0.1]}, ["alphas.0: -0.1 ", "greater than 0"]),
        ({"alphas": ["small"]}, ["alphas.0", "'small'", "number"]),
        ({"experiments": []}, ["experiments", "at least 1 item"]),
        ({"experiments": ["mnist"]}, ["unknown experiment 'mnist'", "digits, fashion-mnist"]),
        (
            {"algorithms": ["fedprox"]},
            ["unknown algorithm 'fedprox'", "fp32, fpq8, aqfl, fedmpq, fedmpq_plus, pruning"],
        ),
        ({"algorithms": []}, ["algorithms", "at least 1 item"]),
        ({"digits.fedmpq": None}, ["unknown algorithm 'fedmpq'", "fp32, fpq8, aqfl, fedmpq_plus", "sections"]),
        ({"execution.workers": 0}, ["execution.workers", "0", "greater than or equal to 1"]),
        ({"execution.executor": "threads"}, ["execution.executor", "'threads'", "'sequential'", "'processes'"]),
        ({"execution.device": "tpu"}, ["execution.device", "'tpu'", "'auto', 'cpu', 'cuda' or 'mps'"]),
        ({"digits.training.rounds": 0, "digits.training.lr": -1}, ["digits.training.rounds", "digits.training.lr"]),
    ],
)
def test_what_does_not_go_together_is_refused(refused, overrides, pieces):
    message = refused(overrides)
    assert all(piece in message for piece in pieces), message


@pytest.mark.parametrize(
    ("key", "value", "beside"),
    [
        ("digits.training.learning_rate", 0.1, "lr"),
        ("digits.learning_rate", 0.1, "training"),
        ("digits.data.name", "cifar10", "source"),
        ("digits.fedprox", {"mu": 1}, "fedmpq"),
        ("digits.fedmpq.lamda", 0.2, "lambda"),
        ("digits.fedmpq.lambda_", 0.2, "lambda"),
        ("digits.fp32.epsilon", 0.2, "aggregation"),
        ("execution.threads", 3, "workers"),
    ],
)
def test_an_unknown_key_is_named_with_its_value_and_what_is_allowed_there(refused, key, value, beside):
    message = refused({key: value})
    assert f"unknown key '{key}' (value {value!r})" in message
    assert beside in message.partition("allowed there: ")[2].split(", ")


def test_an_unknown_key_at_the_top_is_named_with_its_value(refused, edited):
    message = refused({}, edited(lambda tree: tree.update(colour="red")))
    assert message.startswith("params.yaml: colour: 'red' is not allowed; allowed: a group of the keys data, ")


@pytest.mark.parametrize(
    ("key", "value", "place"),
    [
        ("rounds", 3, "training.rounds"),
        ("clients", 10, "partition.clients"),
        ("source", "cifar10", "data.source"),
        ("budgets", [2], "model.budgets"),
        ("share", 0.5, "participation.share"),
    ],
)
def test_a_key_that_has_lost_its_group_is_told_where_it_belongs(refused, key, value, place):
    assert refused({f"digits.{key}": value}).endswith(f"it belongs to a group: {place}")


@pytest.mark.parametrize("key", ["training.lr", "model.budgets", "model.network", "partition.seeds", "data.source"])
def test_a_missing_key_is_named(refused, edited, key):
    group, name = key.split(".")
    assert refused({}, edited(lambda tree: tree["digits"][group].pop(name))) == f"params.yaml: digits.{key} is missing"


@pytest.mark.parametrize("group", GROUPS)
def test_a_missing_group_is_named(refused, edited, group):
    assert refused({}, edited(lambda tree: tree["digits"].pop(group))) == f"params.yaml: digits.{group} is missing"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"trainings": {}}, r"unknown key 'defaults.trainings' \(value {}\); allowed there: data, .*training"),
        ({"training": {"round": 3}}, r"unknown key 'defaults.training.round' \(value 3\); allowed there: rounds, "),
        ({"fedmpq": {"lamda": 3}}, r"unknown key 'defaults.fedmpq.lamda' \(value 3\); allowed there: .*lambda"),
        ({"rounds": 3}, r"unknown key 'defaults.rounds' \(value 3\); it belongs to a group: training.rounds"),
        ({"training": None}, "defaults.training: None is not allowed; allowed: a group of the keys rounds"),
        ({"training": {"lr": -1}}, "defaults.training.lr: -1 is not allowed; allowed: greater than 0$"),
    ],
)
def test_defaults_are_checked_also_where_no_experiment_merges_them(refused, edited, change, said):
    assert re.match(f"params.yaml: {said}", refused({}, edited(lambda tree: tree["defaults"].update(change))))


@pytest.mark.parametrize("defaults", [None, [1], "x"])
def test_defaults_that_are_no_groups_are_refused(refused, edited, defaults):
    assert refused({}, edited(lambda tree: tree.update(defaults=defaults))).startswith("params.yaml: defaults: ")


def test_a_file_needs_no_defaults(edited, parameters):
    assert load_parameters(edited(lambda tree: tree.pop("defaults"))) == parameters


@pytest.mark.parametrize("key", ["experiments", "algorithms", "alphas"])
def test_a_missing_list_of_the_matrix_is_named(refused, edited, key):
    assert f"{key} is missing" in refused({}, edited(lambda tree: tree.pop(key)))


def test_only_what_is_in_the_matrix_needs_a_section_for_the_algorithm(edited):
    path = edited(lambda tree: tree["cifar10"].pop("aqfl"))
    parameters = load_parameters(path)
    with pytest.raises(UserError, match=r"unknown algorithm 'aqfl'; allowed: fp32, fpq8, fedmpq, .*the sections"):
        parameters.experiment("cifar10").algorithm("aqfl")


def test_a_missing_file_is_named(refused, tmp_path):
    assert refused({}, tmp_path / "params.yaml") == f"cannot read {tmp_path}/params.yaml: No such file or directory"
    assert "Is a directory" in refused({}, tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"digits: [", "no valid YAML"),
        (b"digits: {a: 1, a: 2}", "no valid YAML"),
        (b"a: &x\n\tb", "no valid YAML"),
        (b"", "holds no parameters"),
        (b"[1, 2]", "holds no parameters"),
        (b"just text", "holds no parameters"),
        (b"experiments: [\xff\xfe]", "params.yaml"),
        (b"1: {}", ""),
    ],
)
def test_a_file_that_is_no_set_of_parameters_is_refused_in_one_line(refused, tmp_path, content, reason):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    assert reason in refused({}, path)
