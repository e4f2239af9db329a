"""What is in params.yaml, and the names that it may use."""

import difflib
import re
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

from fedmpq.config import ALGORITHM_NAMES, GROUPS, load_parameters
from fedmpq.config.fold import fold
from fedmpq.models import build_model
from fedmpq.quantization.codes import QUANTIZERS

PARAMS = Path(__file__).parents[2] / "params.yaml"
SMALL = ["cifar10-small", "cifar100-small", "tiny-imagenet-small", "cifar10-ablation"]
SECTIONS = ["digits", "fashion-mnist", "cifar10", "cifar100", "tiny-imagenet", *SMALL]
PAPER = ["cifar10", "cifar100", "tiny-imagenet"]


@pytest.fixture(scope="module")
def parameters():
    return load_parameters(PARAMS)


def test_the_lists_of_the_matrix(parameters):
    assert parameters.experiments == ["digits"]
    assert parameters.algorithms == ["fp32", "fpq8", "aqfl", "fedmpq", "fedmpq_plus"]
    assert parameters.alphas == [0.5]


def test_sections_ready_to_run(parameters):
    assert list(parameters.sections) == SECTIONS
    networks = dict.fromkeys(SECTIONS, "resnet20") | dict.fromkeys(["tiny-imagenet", "tiny-imagenet-small"], "resnet44")
    networks |= dict.fromkeys(["digits", "fashion-mnist", "cifar10-ablation"], "resnet8")
    for name, network in networks.items():
        experiment = parameters.experiment(name)
        assert all(experiment.algorithm(algorithm) for algorithm in ALGORITHM_NAMES)
        assert experiment.model.network == network
        build_model(network, 2, 8)


@pytest.mark.parametrize("name", PAPER)
def test_settings_of_the_paper(parameters, name):
    experiment = parameters.experiment(name)
    expected = {
        "data": {"train_samples": None, "test_samples": None, "validation": 0.1, "flip": False, "crop_padding": 0},
        "partition": {"clients": 10},
        "model": {
            "budgets": [2, 2, 4, 4, 4, 6, 6, 6, 8, 8],
            "activation_bits": 4,
            "quantizer": "full-range",
        },
        "training": {
            "rounds": 50,
            "local_epochs": 5,
            "batch_size": 128,
            "lr": 0.1,
            "momentum": 0.9,
            "averaging": "samples",
        },
        "participation": {"share": 1, "dropout": 0, "deadline": None},
    }
    for group, keys in expected.items():
        assert {key: getattr(getattr(experiment, group), key) for key in keys} == keys
    for algorithm in ("fp32", "fpq8", "aqfl", "fedmpq", "pruning"):
        assert experiment.algorithm(algorithm).aggregation == "weights"
        assert experiment.quantizer(algorithm) == "full-range"
    assert 0.02 <= experiment.algorithm("fedmpq").epsilon <= 0.03
    # Section 9 of the specification: a Gaussian step, changes averaged, no Lasso.
    beyond = experiment.algorithm("fedmpq_plus")
    assert (beyond.aggregation, experiment.quantizer("fedmpq_plus"), beyond.lambda_) == ("updates", "normal", 0)


def test_every_number_is_annotated():
    """Each key of `defaults` has a comment, or its name and type say all there is to know, or it stands above."""
    text = PARAMS.read_text()
    defaults = text[text.index("\ndefaults:") : text.index("\ndigits:")]
    annotated = set(re.findall(r"^    (\w+):.*#", defaults, re.MULTILINE))
    plain = {"clients", "rounds", "local_epochs", "lr", "momentum", "weight_decay"}
    assert set(re.findall(r"^    (\w+):", defaults, re.MULTILINE)) <= annotated | plain


@pytest.mark.parametrize("name", SECTIONS)
def test_an_experiment_merges_what_is_common_and_states_only_what_differs(name):
    text = PARAMS.read_text()
    section = re.search(rf"^{name}:\n(?:(?:  .*)?\n)*", text, re.MULTILINE)[0]
    merged = dict(re.findall(r"^  ([\w-]+):\n    <<: \*(\w+)$", section, re.MULTILINE))
    groups = [*GROUPS, *ALGORITHM_NAMES]
    assert [group for group in groups if merged[group] != group] == []
    defaults = YAML(typ="safe").load(text)["defaults"]
    stated = YAML(typ="safe").load(re.sub("^    <<: .*\n", "", section, flags=re.MULTILINE))[name]
    for group, keys in stated.items():
        assert not [key for key, value in (keys or {}).items() if defaults[merged[group]].get(key, ...) == value]


# What `dvc exp run -S` does to it


@pytest.fixture
def copy(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes(PARAMS.read_bytes())
    return path


def changed_lines(before, after):
    """Lines removed and added."""
    lines = list(difflib.ndiff(before.splitlines(), after.splitlines()))
    return [[line[2:] for line in lines if line.startswith(sign)] for sign in "-+"]


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("training.rounds", 3, "    rounds: 25"),
        ("data.source", "cifar100", "    source: digits  # built-in"),
        ("fedmpq.lambda", 0.7, None),
        ("model.activation_bits", "null", None),
    ],
)
def test_an_override_by_dvc_changes_one_value_of_one_experiment(copy, key, value, line):
    before = copy.read_text()
    apply_overrides(copy, [f"digits.{key}={value}"])
    value = None if value == "null" else value
    assert load_parameters(copy) == load_parameters(PARAMS, {f"digits.{key}": value})
    after = YAML(typ="safe").load(copy)
    assert after["defaults"] == YAML(typ="safe").load(PARAMS)["defaults"]
    removed, _ = changed_lines(before, copy.read_text())
    assert len(removed) == (line is not None)
    assert all(found.startswith(line) for found in removed)
    assert re.findall("#.*", copy.read_text()) == re.findall("#.*", before)


@pytest.mark.parametrize(
    ("assignments", "removed", "added"),
    [
        (["digits.training.rounds=3"], ["    rounds: 25"], ["    rounds: 3"]),
        (["digits.training.lr=0.2"], [], ["    lr: 0.2"]),
        (["cifar10.partition.seeds=[5,6]"], [], ["    seeds:", "    - 5", "    - 6"]),
        (["cifar10.fedmpq.lambda=0.7", "digits.training.rounds=25"], [], ["    lambda: 0.7"]),
        (["digits.model.activation_bits=null"], [], ["    activation_bits:"]),
    ],
)
def test_folded_an_override_by_dvc_is_one_value_more(copy, assignments, removed, added):
    before = Counter(copy.read_text().splitlines())
    fold(copy)
    assert copy.read_text() == PARAMS.read_text()
    apply_overrides(copy, assignments)
    parameters = load_parameters(copy)
    fold(copy)
    assert load_parameters(copy) == parameters
    after = Counter(copy.read_text().splitlines())
    found = [*(before - after).elements()], sorted((after - before).elements())
    assert found == (removed, sorted(added))


def test_further_overrides_by_dvc_change_one_line(copy):
    apply_overrides(copy, ["digits.training.rounds=3"])
    for assignment in ("digits.training.rounds=4", "cifar10.fedmpq.lambda=0.5", "digits.training.lr=0.2"):
        before = copy.read_text()
        apply_overrides(copy, [assignment])
        removed, added = changed_lines(before, copy.read_text())
        assert len(removed) == 1
        assert added == [f"    {assignment.split('.', 2)[2].replace('=', ': ')}"]


def test_names_of_scale_estimators_are_those_that_there_are():
    assert set(get_args(GROUPS["model"].model_fields["quantizer"].annotation)) == set(QUANTIZERS)
