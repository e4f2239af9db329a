"""Small trainings on the data set that comes with a package."""

from tiny import PARAMETERS

from fedmpq.engine.cell import Cell

SMALL = {"data.image_size": 8, "model.network": "user_models:linear", "model.activation_bits": None,
         "training.rounds": 1, "training.precision": "float32"}  # fmt: skip
FIVE = {"partition.clients": 5, "model.budgets": [4.0] * 5}
MINE = {"data.source": "mine", "partition.min_samples": 1, **FIVE}


def parameters(overrides):
    digits = PARAMETERS.varied("digits", {**SMALL, **overrides})
    return PARAMETERS.model_copy(update={"sections": {**PARAMETERS.sections, "digits": digits}})


def cell(root, overrides=(), algorithm="fedmpq", alpha=0.5):
    return Cell.of(root, parameters(dict(overrides)), "digits", algorithm, alpha)
