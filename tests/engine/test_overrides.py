"""An override is in force, and recorded, or it is refused: every key."""

import pytest
from projects import FIVE, MINE, cell, parameters
from tiny import PLACES

from fedmpq.config import ALGORITHM_NAMES
from fedmpq.config.algorithms import TYPES
from fedmpq.errors import UserError
from pipeline import train

OTHER = {
    "data.source": "mine",
    "data.image_column": "picture",
    "data.label_column": "kind",
    "data.image_size": 9,
    "data.train_samples": 300,
    "data.test_samples": 200,
    "data.validation": 0.2,
    "data.flip": True,
    "data.crop_padding": 1,
    "partition.clients": 5,
    "partition.min_samples": 11,
    "partition.max_redraws": 999,
    "partition.seeds": [0, 7],
    "partition.more_seeds": {0.5: [7]},
    "model.network": "user_models:perceptron",
    "model.budgets": [3.0] * 10,
    "model.full_precision": ["1"],
    "model.activation_bits": 3,
    "model.quantizer": "normal",
    "training.rounds": 2,
    "training.local_epochs": 2,
    "training.batch_size": 33,
    "training.lr": 0.2,
    "training.momentum": 0.8,
    "training.weight_decay": 0.1,
    "training.precision": "bfloat16",
    "training.averaging": "uniform",
    "training.evaluate_quantized": 1,
    "participation.share": 0.5,
    "participation.min_answers": 2,
    "participation.max_repeats": 4,
    "participation.dropout": 0.1,
    "participation.deadline": 9.0,
    "participation.images_per_second": 9.0,
    "participation.bandwidth": 9.0,
    "participation.speed_spread": 0.4,
}
"""Another value for every key that experiments have in common."""
TOGETHER = {"partition.clients": FIVE, "data.source": MINE}
"""What has to change with a key."""
OWN = {
    "aggregation": ["weights", "updates"],
    "uplink": ["weights", "updates"],
    "quantizer": ["full-range", "normal"],
    "lambda": [0.7],
    "epsilon": [0.5],
    "min_bits": [2],
    "calibration": [16],
}
"""Values for the keys that an algorithm has of its own, but for `of`."""


def keys_of(algorithm):
    return [field.alias or name for name, field in TYPES[algorithm].model_fields.items()]


def refusal(root, overrides, algorithm):
    """Why a training with these overrides is refused; None: it is not."""
    try:
        experiment = parameters(overrides).experiment("digits")
        train.refuse_idle([f"{key}={value}" for key, value in overrides.items()], experiment, algorithm)
        cell(root, overrides, algorithm).setup(0)
    except UserError as error:
        return str(error)
    return None


def check_in_force(root, key, value, overrides, algorithm):
    """An override changes what a run records and its fingerprint."""
    before, after = cell(root, algorithm=algorithm), cell(root, overrides, algorithm)
    assert after.fingerprint != before.fingerprint
    if key == "partition.seeds":
        return
    assert before.flat_parameters[key] != value
    assert after.flat_parameters[key] == value
    assert {k for k in before.flat_parameters if before.flat_parameters[k] != after.flat_parameters[k]} == {
        name for name in overrides if name in before.flat_parameters
    } | {key}


def test_no_key_is_forgotten():
    assert OTHER.keys() == {*PLACES.values()}
    assert {key for algorithm in TYPES for key in keys_of(algorithm)} == {"of", *OWN}


@pytest.mark.parametrize("key", OTHER)
def test_an_override_is_in_force_or_refused(after_stages, key):
    overrides = {key: OTHER[key]} | TOGETHER.get(key, {})
    said = {
        "data.validation": "--set data.validation=0.2: a training by fedmpq does not read data.validation",
        "partition.more_seeds": "--set partition.more_seeds={0.5: [7]}: a training by fedmpq does not read"
        " partition.more_seeds, it has partition.seeds",
    } | dict.fromkeys(
        ("data.image_column", "data.label_column"),
        "digits is no table; allowed for image_column and label_column: null",
    )
    assert refusal(after_stages, overrides, "fedmpq") == said.get(key)
    if key not in said:
        check_in_force(after_stages, key, OTHER[key], overrides, "fedmpq")


@pytest.mark.parametrize("algorithm", ALGORITHM_NAMES)
def test_an_override_of_an_algorithm_is_in_force_for_it_and_refused_for_others(after_stages, algorithm):
    before, other = cell(after_stages, algorithm=algorithm).flat_parameters, "aqfl" if algorithm != "aqfl" else "fedmpq"
    kin = "lambda" if "lambda" in before else "uplink" if "uplink" in before else None
    alike = {"of": {"lambda": ["fedmpq", "pruning"], "uplink": ["fpq8", "aqfl"], None: ["fp32", "fedpaq"]}[kin]}
    for key in keys_of(algorithm):
        if key == "of" and "calibration" in before:
            continue  # No other algorithm has as much.
        recorded = "model.quantizer" if key == "quantizer" else key
        value = next(value for value in (OWN | alike)[key] if value != before[recorded])
        overrides = {f"{algorithm}.{key}": value}
        assert refusal(after_stages, overrides, algorithm) is None
        check_in_force(after_stages, recorded, value, overrides, algorithm)
        assert refusal(after_stages, overrides, other).endswith(
            f"a training by {other} does not read {algorithm}.{key}"
        )


def test_an_estimator_of_scales_is_refused_where_the_algorithm_has_its_own(after_stages):
    said = refusal(after_stages, {"model.quantizer": "normal"}, "fedmpq_plus")
    assert said.endswith("a training by fedmpq_plus does not read model.quantizer, it has fedmpq_plus.quantizer")


@pytest.mark.parametrize("assignment", ["data.validation=0.2", "fp32.aggregation=updates", " fpq8.quantizer = normal"])
def test_the_command_refuses_in_one_line_what_it_does_not_read(capsys, assignment):
    with pytest.raises(SystemExit) as caught:
        train.main(["--experiment", "digits", "--algorithm", "fedmpq", "--alpha", "0.5", "--set", assignment])
    assert caught.value.code == 1
    key = assignment.partition("=")[0].strip()
    assert capsys.readouterr().err == f"error: --set {assignment}: a training by fedmpq does not read {key}\n"
