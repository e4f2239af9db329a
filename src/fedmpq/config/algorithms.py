"""What each algorithm has of its own: a section of an experiment, called as the algorithm or with `of: <algorithm>`."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, SerializeAsAny, model_validator

from fedmpq.config.settings import Settings, fault

MAX_BITS = 8
RUN = ("algorithm", "alpha", "seed")
"""What is recorded of every run beside the parameters of its experiment and what its algorithm has of its own."""
Bits = Annotated[int, Field(ge=1, le=MAX_BITS)]
Quantizer = Literal["full-range", "normal"]


class AlgorithmSettings(Settings):
    """What every algorithm has of its own (fp32, fedpaq, uveqfed need no more)."""

    of: Annotated[str, Field(min_length=1)]
    """The algorithm: one of ALGORITHM_NAMES, or `package.module:Class` of the user's own; else as the section."""
    aggregation: Literal["weights", "updates"] = "weights"
    """`weights`: average of the clients' models. `updates`: global model + average change."""
    quantizer: Quantizer | None = None
    """How a layer's levels are found; null: as the group `model` says."""


class QuantizedSettings(AlgorithmSettings):
    """Clients train with quantized weights (fpq8, aqfl need no more)."""

    uplink: Literal["weights", "updates"] = "weights"
    """What of a client's weights is sent, quantized: themselves, or their change."""


class FedMPQSettings(QuantizedSettings):
    """FedMPQ: group Lasso on bit planes, pruning of sparse bits, pruning-growing on the server."""

    lambda_: Annotated[float, Field(ge=0, alias="lambda")]
    """Strength of the group Lasso on the bit planes (supplement, section 3)."""
    epsilon: Annotated[float, Field(ge=0, le=1)]
    """A layer loses its most significant bit while that plane's share of ones is below this."""
    min_bits: Bits = 1
    """No layer gets fewer bits than this."""


class FedMPQPlusSettings(FedMPQSettings):
    """FedMPQ+: besides, batch norm is calibrated."""

    calibration: Annotated[int, Field(ge=0)] = 0
    """Images on which each client measures statistics of batch norm for the new global model; 0: none."""


class OwnSettings(AlgorithmSettings):
    """An algorithm of the user's own: what else it has it checks itself."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="after")
    def _recorded_as_its_own(self) -> "OwnSettings":
        for name in RUN:
            if name in self.model_extra:
                raise fault(name, self.model_extra[name], "another name; every run has this one")
        return self


TYPES: dict[str, type[AlgorithmSettings]] = {
    "fp32": AlgorithmSettings,
    "fpq8": QuantizedSettings,
    "aqfl": QuantizedSettings,
    "fedmpq": FedMPQSettings,
    "pruning": FedMPQSettings,
    "fedmpq_plus": FedMPQPlusSettings,
    "fedpaq": AlgorithmSettings,
    "uveqfed": AlgorithmSettings,
}
"""The algorithms that there are, and what they have of their own."""
ALGORITHM_NAMES = tuple(TYPES)


def _typed(section: dict[str, Any]) -> AlgorithmSettings:
    of = section["of"]
    kind = OwnSettings if ":" in str(of) else TYPES.get(str(of))
    if kind is None:
        raise fault("of", of, f"{', '.join(ALGORITHM_NAMES)}, or package.module:Class of your own")
    return kind.model_validate(section)


Section = SerializeAsAny[Annotated[AlgorithmSettings, BeforeValidator(_typed)]]
"""Settings of the type that `of` says."""
