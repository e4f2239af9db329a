import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from fedmpq.config import GROUPS, load_parameters, parse_overrides
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
def test_a_value_that_is_not_allowed_is_named_with_its_key_and_what_is(key, value, allowed):
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
def test_what_does_not_go_together_is_refused(overrides, pieces):
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
def test_an_unknown_key_is_named_with_its_value_and_what_is_allowed_there(key, value, beside):
    message = refused({key: value})
    assert f"unknown key '{key}' (value {value!r})" in message
    assert beside in message.partition("allowed there: ")[2].split(", ")


def test_an_unknown_key_at_the_top_is_named_with_its_value(edited):
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
def test_a_key_that_has_lost_its_group_is_told_where_it_belongs(key, value, place):
    assert refused({f"digits.{key}": value}).endswith(f"it belongs to a group: {place}")


@pytest.mark.parametrize("key", ["training.lr", "model.budgets", "model.network", "partition.seeds", "data.source"])
def test_a_missing_key_is_named(edited, key):
    group, name = key.split(".")
    assert refused({}, edited(lambda tree: tree["digits"][group].pop(name))) == f"params.yaml: digits.{key} is missing"


@pytest.mark.parametrize("group", GROUPS)
def test_a_missing_group_is_named(edited, group):
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
def test_defaults_are_checked_also_where_no_experiment_merges_them(edited, change, said):
    assert re.match(f"params.yaml: {said}", refused({}, edited(lambda tree: tree["defaults"].update(change))))


@pytest.mark.parametrize("defaults", [None, [1], "x"])
def test_defaults_that_are_no_groups_are_refused(edited, defaults):
    assert refused({}, edited(lambda tree: tree.update(defaults=defaults))).startswith("params.yaml: defaults: ")


def test_a_file_needs_no_defaults(edited, parameters):
    assert load_parameters(edited(lambda tree: tree.pop("defaults"))) == parameters


@pytest.mark.parametrize("key", ["experiments", "algorithms", "alphas"])
def test_a_missing_list_of_the_matrix_is_named(edited, key):
    assert f"{key} is missing" in refused({}, edited(lambda tree: tree.pop(key)))


def test_only_what_is_in_the_matrix_needs_a_section_for_the_algorithm(edited):
    path = edited(lambda tree: tree["cifar10"].pop("aqfl"))
    parameters = load_parameters(path)
    with pytest.raises(UserError, match=r"unknown algorithm 'aqfl'; allowed: fp32, fpq8, fedmpq, .*the sections"):
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


# Variants, and algorithms from outside


def section(**keys):
    return {"digits.mine": {"of": "fedmpq", "lambda": 0.3, "epsilon": 0.02, **keys}}


@pytest.mark.parametrize("of", ["fp32", "uveqfed", "package.module:Class"])
def test_a_section_of_any_name_is_an_algorithm_by_what_it_is_of(of):
    experiment = load_parameters(PARAMS, {"digits.my-Own_2": {"of": of}, "algorithms": ["my-Own_2"]}).experiment(
        "digits"
    )
    assert experiment.algorithm("my-Own_2").of == experiment.flat("my-Own_2")["of"] == of
    assert experiment.algorithm("fp32").of == "fp32"
    assert [*experiment.tree()] == [*GROUPS, *experiment.algorithms]
    assert experiment.tree()["my-Own_2"]["of"] == of


def test_settings_of_a_variant_are_checked_as_those_of_its_algorithm():
    variant = load_parameters(PARAMS, section()).experiment("digits").algorithm("mine")
    assert (variant.lambda_, variant.epsilon, variant.min_bits) == (0.3, 0.02, 1)
    own = load_parameters(PARAMS, {"digits.mine": {"of": "a.b:C", "sharpness": [1]}}).experiment("digits").flat("mine")
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
def test_a_section_that_is_no_algorithm_is_refused_by_its_own_name(overrides, said):
    assert re.match(f"params.yaml: {said}", refused(overrides)), refused(overrides)


@pytest.mark.parametrize("name", ["digits-v1.1", "my digits", "-x", "2024", "Größe", 7])
def test_names_that_dvc_cannot_use_are_refused(edited, name):
    said = f"{name}: {name!r} is not allowed; allowed: a name of letters, digits, - and _, a letter first"
    path = edited(lambda tree: tree["digits"].update({name: {"of": "fp32"}}))
    assert refused({}, path) == f"params.yaml: digits.{said}"
    assert f"params.yaml: {said}" in refused({}, edited(lambda tree: tree.update({name: tree["digits"]})))


def test_settings_of_ones_own_algorithm_are_its_own_business():
    """What is checked of FedMPQ (min_bits against budgets) is not of another algorithm's key of that name."""
    parameters = load_parameters(PARAMS, {"digits.mine": {"of": "a:B", "min_bits": "few"}})
    assert parameters.experiment("digits").flat("mine")["min_bits"] == "few"


# Overrides


def test_overrides_by_dotted_key(parameters):
    changed = load_parameters(PARAMS, {"digits.fedmpq.lambda": 0.7, "digits.training.rounds": 3, "alphas": [1]})
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
def test_an_override_below_what_is_no_section_is_refused(key):
    assert refused({key: 1}).startswith(f"params.yaml: unknown key '{key}': there is no section")


@pytest.mark.parametrize(
    ("assignment", "key", "value"),
    [
        ("training.rounds=3", "digits.training.rounds", 3),
        ("training.lr = 0.5", "digits.training.lr", 0.5),
        ("training.lr=1e-3", "digits.training.lr", 0.001),
        ("fedmpq.lambda=1", "digits.fedmpq.lambda", 1),
        ("partition.seeds=[4, 5]", "digits.partition.seeds", [4, 5]),
        ("model.activation_bits=null", "digits.model.activation_bits", None),
        ("data.flip=true", "digits.data.flip", True),
        ("model.network=a.b:c", "digits.model.network", "a.b:c"),
        ("model.network=a=b", "digits.model.network", "a=b"),
    ],
)
def test_assignments_have_yaml_values(assignment, key, value):
    assert parse_overrides([assignment], "digits") == {key: value}


@pytest.mark.parametrize("assignment", ["training.rounds", "", "seeds=[1", "model={a: 1", "model='x", "training.lr=@"])
def test_an_assignment_that_is_none_is_refused(assignment):
    with pytest.raises(UserError, match=rf"^override {re.escape(repr(assignment))}: .*KEY=VALUE"):
        parse_overrides([assignment], "digits")


def test_an_assignment_without_a_value_is_refused():
    refused(parse_overrides(["training.rounds="], "digits"))
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
    with pytest.raises(UserError, match=rf"^alpha: {alpha} is not allowed; allowed: a number above 0"):
        parameters.alpha_label(alpha)
    assert "alphas.0: " in refused({"alphas": [alpha]})


def test_unknown_names_are_refused_with_those_there_are(parameters):
    with pytest.raises(UserError, match=r"unknown experiment 'mnist'; allowed: digits, fashion-mnist, cifar10"):
        parameters.experiment("mnist")
    with pytest.raises(UserError, match=r"unknown algorithm 'sgd'; allowed: fp32, fpq8, aqfl, fedmpq, fedmpq_plus, "):
        parameters.experiment("digits").algorithm("sgd")


@pytest.mark.parametrize(("share", "asked"), [(1.0, 10), (0.25, 3), (0.24, 2), (0.05, 1), (0.001, 1), (0.35, 4)])
def test_clients_asked_in_a_round(share, asked):
    assert load_parameters(PARAMS, {"digits.participation.share": share}).experiment("digits").asked == asked


def test_flat_parameters_are_those_that_determine_the_run(parameters):
    experiment = parameters.experiment("digits")
    flat = experiment.flat("fedmpq")
    assert flat["lambda"] == 0.1
    assert flat["model.budgets"] == [2, 2, 4, 4, 4, 6, 6, 6, 8, 8]
    keys = {f"{group}.{key}" for group, model in GROUPS.items() for key in model.model_fields}
    shared = keys - {"partition.seeds", "data.validation"}
    assert set(flat) == {"of", "aggregation", "uplink", "lambda", "epsilon", "min_bits"} | shared
    assert set(experiment.flat("fp32")) == {"of", "aggregation"} | shared


@pytest.mark.parametrize(
    ("own", "in_force"), [(None, "full-range"), ("full-range", "full-range"), ("normal", "normal")]
)
def test_the_quantizer_that_is_recorded_is_the_one_in_force(own, in_force):
    overrides = {"digits.fedmpq.quantizer": own, "digits.model.quantizer": "full-range"}
    experiment = load_parameters(PARAMS, overrides).experiment("digits")
    assert experiment.quantizer("fedmpq") == in_force
    flat = experiment.flat("fedmpq")
    assert flat["model.quantizer"] == in_force
    assert "quantizer" not in flat
    assert experiment.flat("aqfl")["model.quantizer"] == "full-range"


def test_parameters_cannot_be_changed_by_accident(parameters):
    with pytest.raises(ValueError, match="frozen"):
        parameters.experiment("digits").training.rounds = 3
