"""What is in params.yaml, and the names that it may use."""

import re
from pathlib import Path
from typing import get_args

import pytest

from fedmpq.config import ALGORITHM_NAMES, Experiment, load_parameters
from fedmpq.models import build_model
from fedmpq.quantization.codes import SCALES

PARAMS = Path(__file__).parents[1] / "params.yaml"
SECTIONS = ["digits", "fashion-mnist", "cifar10", "cifar100", "tiny-imagenet"]
PAPER = SECTIONS[2:]


@pytest.fixture(scope="module")
def parameters():
    return load_parameters(PARAMS)


def test_the_lists_of_the_matrix(parameters):
    assert parameters.experiments == ["digits"]
    assert parameters.algorithms == ["fp32", "fpq8", "aqfl", "fedmpq"]
    assert parameters.alphas == [0.1, 0.5]


def test_sections_ready_to_run(parameters):
    assert list(parameters.sections) == SECTIONS
    for name in SECTIONS:
        experiment = parameters.experiment(name)
        assert all(experiment.algorithm(algorithm) for algorithm in ALGORITHM_NAMES)
        assert experiment.model == {"digits": "resnet8", "fashion-mnist": "resnet8", "tiny-imagenet": "resnet44"}.get(
            name, "resnet20"
        )
        build_model(experiment.model, 2, 8)


@pytest.mark.parametrize("name", PAPER)
def test_settings_of_the_paper(parameters, name):
    experiment = parameters.experiment(name)
    expected = {
        "clients": 10,
        "budgets": [2, 2, 4, 4, 4, 6, 6, 6, 8, 8],
        "participation": 1,
        "dropout": 0,
        "deadline": None,
        "rounds": 50,
        "local_epochs": 5,
        "batch_size": 128,
        "lr": 0.1,
        "momentum": 0.9,
        "activation_bits": 4,
        "averaging": "samples",
        "quantizer": "full-range",
        "flip": False,
        "crop_padding": 0,
        "train_samples": None,
        "validation": 0.1,
    }
    assert {key: getattr(experiment, key) for key in expected} == expected
    assert all(experiment.algorithm(algorithm).aggregation == "weights" for algorithm in ALGORITHM_NAMES)
    assert 0.02 <= experiment.fedmpq.epsilon <= 0.03


def test_every_number_is_annotated():
    """Each key of the first section has a comment, or its name and type say all there is to know."""
    text = PARAMS.read_text()
    section = text[text.index("\ndigits:") : text.index("\nfashion-mnist:")]
    plain = {"clients", "seeds", "rounds", "local_epochs", "lr", "momentum", "weight_decay"}
    bare = set(re.findall(r"^  (\w+): [^#\n]+$", section, re.MULTILINE))
    assert bare <= plain


def test_names_of_scale_estimators_are_those_that_there_are():
    assert set(get_args(Experiment.model_fields["quantizer"].annotation)) == set(SCALES)
