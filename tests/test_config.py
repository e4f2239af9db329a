import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from fedmpq.config import ALGORITHM_NAMES, Experiment, check_alpha, load_parameters, parse_overrides
from fedmpq.errors import UserError

PARAMS = Path(__file__).parents[1] / "params.yaml"


@pytest.fixture(scope="module")
def parameters():
    return load_parameters(PARAMS)


def refused(overrides, path=PARAMS):
    with pytest.raises(UserError) as caught:
        load_parameters(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def edited(tmp_path):
    """A function that changes the tree of params.yaml and returns the path of the changed file."""

    def edit(change):
        tree = YAML(typ="safe").load(PARAMS)
        change(tree)
        path = tmp_path / "params.yaml"
        YAML().dump(tree, path)
        return path

    return edit


# What is refused, and how


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("image_size", 7, "8"),
        ("image_size", 513, "512"),
        ("train_samples", 0, "1"),
        ("validation", 0, "greater than 0"),
        ("validation", 1.0, "less than 1"),
        ("flip", "maybe", "boolean"),
        ("flip", 1, "boolean"),
        ("crop_padding", -1, "0"),
        ("clients", 0, "1"),
        ("clients", 2.5, "integer"),
        ("min_samples", 0, "1"),
        ("max_redraws", -1, "0"),
        ("model", "", "1 character"),
        ("data", "no/such", "pattern"),
        ("data", "", "pattern"),
        ("activation_bits", 0, "1"),
        ("activation_bits", 9, "8"),
        ("quantizer", "best", "'full-range' or 'normal'"),
        ("seeds", [], "1 item"),
        ("rounds", 0, "1"),
        ("rounds", "ten", "integer"),
        ("rounds", True, "integer"),
        ("rounds", None, "integer"),
        ("participation", 0, "greater than 0"),
        ("participation", 1.1, "less than or equal to 1"),
        ("min_answers", 0, "1"),
        ("min_answers", 11, "1 to 10"),
        ("max_repeats", -1, "0"),
        ("dropout", 1.0, "less than 1"),
        ("dropout", -0.1, "0"),
        ("deadline", 0, "greater than 0"),
        ("images_per_second", 0, "greater than 0"),
        ("bandwidth", -5, "greater than 0"),
        ("speed_spread", -1, "0"),
        ("averaging", "median", "'samples' or 'uniform'"),
        ("local_epochs", 0, "1"),
        ("batch_size", 0, "1"),
        ("lr", 0, "greater than 0"),
        ("lr", -0.1, "greater than 0"),
        ("lr", float("nan"), "finite number"),
        ("lr", float("inf"), "finite number"),
        ("lr", "0.1", "number"),
        ("momentum", 1.0, "less than 1"),
        ("weight_decay", -1, "0"),
        ("precision", "float16", "'auto', 'float32' or 'bfloat16'"),
        ("evaluate_quantized", "yes", "boolean"),
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
def test_a_value_that_is_not_allowed_is_named_with_its_key_and_what_is(key, value, allowed):
    message = refused({f"digits.{key}": value})
    assert message.startswith(f"params.yaml: digits.{key}: ")
    assert str(value) in message
    assert re.search(rf"allowed: .*{re.escape(allowed)}", message)


@pytest.mark.parametrize(
    ("overrides", "pieces"),
    [
        ({"digits.budgets": [2, 2]}, ["digits.budgets", "2 numbers", "each of the 10 clients"]),
        ({"digits.budgets": [4] * 11}, ["digits.budgets", "11 numbers", "each of the 10 clients"]),
        ({"digits.clients": 9}, ["digits.budgets", "10 numbers", "each of the 9 clients"]),
        ({"digits.budgets": [0.5] + [4] * 9}, ["digits.budgets.0", "0.5", "greater than or equal to 1"]),
        ({"digits.budgets": [4] * 9 + [8.5]}, ["digits.budgets.9", "8.5", "less than or equal to 8"]),
        ({"digits.seeds": [0, 1, 0]}, ["digits.seeds", "[0, 1, 0]", "different seeds"]),
        ({"digits.seeds": [0, -1]}, ["digits.seeds.1", "-1", "greater than or equal to 0"]),
        ({"digits.participation": 0.2, "digits.min_answers": 3}, ["digits.min_answers", "3", "1 to 2"]),
        ({"digits.fedmpq": 3}, ["digits.fedmpq", "3"]),
        ({"alphas": []}, ["alphas", "at least 1 item"]),
        ({"alphas": [0.1, 0]}, ["alpha", "0", "above 0"]),
        ({"alphas": [-0.1]}, ["alpha", "-0.1", "above 0"]),
        ({"alphas": ["small"]}, ["alphas.0", "'small'", "number"]),
        ({"experiments": []}, ["experiments", "at least 1 item"]),
        ({"experiments": ["mnist"]}, ["unknown experiment 'mnist'", "digits, fashion-mnist"]),
        ({"algorithms": ["fedprox"]}, ["unknown algorithm 'fedprox'", "fp32, fpq8, aqfl, fedmpq, pruning"]),
        ({"algorithms": []}, ["algorithms", "at least 1 item"]),
        ({"digits.fedmpq": None}, ["no section 'fedmpq'"]),
        ({"execution.workers": 0}, ["execution.workers", "0", "greater than or equal to 1"]),
        ({"execution.executor": "threads"}, ["execution.executor", "'threads'", "'sequential'", "'processes'"]),
        ({"execution.device": "tpu"}, ["execution.device", "'tpu'", "'auto', 'cpu', 'cuda' or 'mps'"]),
        ({"digits.rounds": 0, "digits.lr": -1}, ["digits.rounds", "digits.lr"]),
    ],
)
def test_what_does_not_go_together_is_refused(overrides, pieces):
    message = refused(overrides)
    assert all(piece in message for piece in pieces), message


@pytest.mark.parametrize(
    ("key", "value", "beside"),
    [
        ("digits.learning_rate", 0.1, "lr"),
        ("digits.fedprox", {"mu": 1}, "fedmpq"),
        ("digits.fedmpq.lamda", 0.2, "lambda"),
        ("digits.fedmpq.lambda_", 0.2, "lambda"),
        ("digits.fp32.epsilon", 0.2, "aggregation"),
        ("execution.threads", 3, "workers"),
    ],
)
def test_an_unknown_key_is_named_with_its_value_and_what_is_allowed_there(key, value, beside):
    message = refused({key: value})
    assert f"unknown key '{key}' (value {value!r})" in message
    assert beside in message.partition("allowed there: ")[2].split(", ")


def test_an_unknown_key_at_the_top_is_named_with_its_value(edited):
    message = refused({}, edited(lambda tree: tree.update(colour="red")))
    assert "'colour'" in message
    assert "red" in message
    assert "allowed: " in message


@pytest.mark.parametrize("key", ["lr", "budgets", "model", "seeds", "quantizer"])
def test_a_missing_key_is_named(edited, key):
    assert refused({}, edited(lambda tree: tree["digits"].pop(key))) == f"params.yaml: digits.{key} is missing"


@pytest.mark.parametrize("key", ["experiments", "algorithms", "alphas"])
def test_a_missing_list_of_the_matrix_is_named(edited, key):
    assert f"{key} is missing" in refused({}, edited(lambda tree: tree.pop(key)))


def test_only_what_is_in_the_matrix_needs_a_section_for_the_algorithm(edited):
    path = edited(lambda tree: tree["cifar10"].pop("aqfl"))
    parameters = load_parameters(path)
    with pytest.raises(UserError, match="no section 'aqfl'"):
        parameters.experiment("cifar10").algorithm("aqfl")


def test_a_missing_file_is_named(tmp_path):
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
def test_a_file_that_is_no_set_of_parameters_is_refused_in_one_line(tmp_path, content, reason):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    assert reason in refused({}, path)


# Overrides


def test_overrides_by_dotted_key(parameters):
    changed = load_parameters(PARAMS, {"digits.fedmpq.lambda": 0.7, "digits.rounds": 3, "alphas": [1]})
    experiment = changed.experiment("digits")
    assert (experiment.fedmpq.lambda_, experiment.rounds, changed.alphas) == (0.7, 3, [1])
    original = parameters.experiment("digits")
    assert experiment.model_copy(update={"rounds": original.rounds, "fedmpq": original.fedmpq}) == original
    assert changed.experiment("cifar10") == parameters.experiment("cifar10")


@pytest.mark.parametrize("key", ["digit.rounds", "digits.fedmq.lambda", "digits.rounds.x", "digits.fedmpq.lambda.x"])
def test_an_override_below_what_is_no_section_is_refused(key):
    assert refused({key: 1}).startswith(f"unknown key '{key}': there is no section")


@pytest.mark.parametrize(
    ("assignment", "key", "value"),
    [
        ("rounds=3", "digits.rounds", 3),
        ("lr = 0.5", "digits.lr", 0.5),
        ("lr=1e-3", "digits.lr", 0.001),
        ("fedmpq.lambda=1", "digits.fedmpq.lambda", 1),
        ("seeds=[4, 5]", "digits.seeds", [4, 5]),
        ("activation_bits=null", "digits.activation_bits", None),
        ("flip=true", "digits.flip", True),
        ("model=a.b:c", "digits.model", "a.b:c"),
        ("model=a=b", "digits.model", "a=b"),
    ],
)
def test_assignments_have_yaml_values(assignment, key, value):
    assert parse_overrides([assignment], "digits") == {key: value}


@pytest.mark.parametrize("assignment", ["rounds", "", "seeds=[1", "model={a: 1", "model='x", "lr=@"])
def test_an_assignment_that_is_none_is_refused(assignment):
    with pytest.raises(UserError, match=rf"^--set {re.escape(assignment)}: .*KEY=VALUE"):
        parse_overrides([assignment], "digits")


def test_an_assignment_without_a_value_is_refused():
    refused(parse_overrides(["rounds="], "digits"))
    refused(parse_overrides(["=3"], "digits"))


# Names and derived values


def test_alpha_labels_are_written_as_in_the_file():
    parameters = load_parameters(PARAMS, {"alphas": [0.1, 1, 5.0]})
    assert [parameters.alpha_label(alpha) for alpha in (0.1, 1.0, 1, 5, 0.5, 2.0)] == [
        "0.1",
        "1",
        "1",
        "5.0",
        "0.5",
        "2",
    ]


@pytest.mark.parametrize("alpha", [0, -1, float("nan"), float("inf"), -0.0])
def test_an_alpha_that_is_no_concentration_is_refused(parameters, alpha):
    for check in (check_alpha, parameters.alpha_label):
        with pytest.raises(UserError, match=rf"^alpha: {alpha} is not allowed; allowed: a number above 0"):
            check(alpha)


def test_unknown_names_are_refused_with_those_there_are(parameters):
    with pytest.raises(UserError, match=r"unknown experiment 'mnist'; allowed: digits, fashion-mnist, cifar10"):
        parameters.experiment("mnist")
    with pytest.raises(UserError, match=r"unknown algorithm 'sgd'; allowed: fp32, fpq8, aqfl, fedmpq, pruning"):
        parameters.experiment("digits").algorithm("sgd")


@pytest.mark.parametrize(("share", "asked"), [(1.0, 10), (0.25, 3), (0.24, 2), (0.05, 1), (0.001, 1), (0.35, 4)])
def test_clients_asked_in_a_round(share, asked):
    assert load_parameters(PARAMS, {"digits.participation": share}).experiment("digits").asked == asked


def test_flat_parameters_are_those_that_determine_the_run(parameters):
    experiment = parameters.experiment("digits")
    flat = experiment.flat("fedmpq")
    assert flat["fedmpq.lambda"] == 0.1
    assert flat["budgets"] == [2, 2, 4, 4, 4, 6, 6, 6, 8, 8]
    assert not {"seeds", "validation", "fp32.aggregation", "pruning.lambda"} & flat.keys()
    own = {f"fedmpq.{key}" for key in ("aggregation", "lambda", "epsilon", "min_bits")}
    shared = set(Experiment.model_fields) - {*ALGORITHM_NAMES, "seeds", "validation"}
    assert set(flat) == own | shared
    assert set(experiment.flat("fp32")) == {"fp32.aggregation"} | shared


def test_parameters_cannot_be_changed_by_accident(parameters):
    with pytest.raises(ValueError, match="frozen"):
        parameters.experiment("digits").rounds = 3
