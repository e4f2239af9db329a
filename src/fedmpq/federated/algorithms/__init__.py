"""The algorithms, a file each. They share one engine and differ in who decides bit-widths and what clients train."""

from importlib import import_module

from pydantic import ValidationError

from fedmpq.config import AlgorithmSettings
from fedmpq.errors import UserError
from fedmpq.extension import load
from fedmpq.federated.algorithms.base import Algorithm
from fedmpq.quantization.codes import Quantizer


def build_algorithm(settings: AlgorithmSettings, quantizer: Quantizer) -> Algorithm:
    """The algorithm that `settings.of` names.

    Of those here only its own module is imported: its results depend on no other's. One of the user's own checks its
    settings by a type of them, `Settings`, if it has one.

    Raises:
        UserError: there is no such algorithm, or its settings are not those that it has.
    """
    if ":" not in settings.of:
        return import_module(f"{__name__}.{settings.of}").ALGORITHM(settings, quantizer)
    own = load(settings.of, "of")
    if not (isinstance(own, type) and issubclass(own, Algorithm)):
        raise UserError(f"of: {settings.of!r} is no Algorithm; allowed: a subclass of {Algorithm.__module__}.Algorithm")
    try:
        return own(own.Settings.model_validate(settings.model_dump(by_alias=True)), quantizer)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{settings.of}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
