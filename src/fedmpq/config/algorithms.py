"""What each algorithm has of its own: a section of an experiment, called as the algorithm or with `of: <algorithm>`."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from fedmpq.config.settings import Settings

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


class OwnSettings(AlgorithmSettings):
    """An algorithm of the user's own: what else it has it checks itself."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="after")
    def _recorded_as_its_own(self) -> "OwnSettings":
        if taken := [name for name in RUN if name in self.model_extra]:
            raise ValueError(f"{taken[0]}: every run has this; allowed: another name for what the algorithm has")
        return self


TYPES: dict[str, type[AlgorithmSettings]] = {
    "fp32": AlgorithmSettings,
    "fpq8": QuantizedSettings,
    "aqfl": QuantizedSettings,
    "fedmpq": FedMPQSettings,
    "pruning": FedMPQSettings,
    "fedmpq_plus": FedMPQSettings,
    "fedpaq": AlgorithmSettings,
    "uveqfed": AlgorithmSettings,
}
"""The algorithms that there are, and what they have of their own."""
ALGORITHM_NAMES = tuple(TYPES)


def settings_type(of: str) -> type[AlgorithmSettings] | None:
    """The type of the settings of the algorithm `of`; None if there is no such algorithm."""
    return OwnSettings if ":" in of else TYPES.get(of)


def _tag(section: Any) -> str:
    of = section["of"] if isinstance(section, dict) else section.of
    return settings_type(of).__name__


Section = Annotated[
    Annotated[AlgorithmSettings, Tag("AlgorithmSettings")]
    | Annotated[QuantizedSettings, Tag("QuantizedSettings")]
    | Annotated[FedMPQSettings, Tag("FedMPQSettings")]
    | Annotated[OwnSettings, Tag("OwnSettings")],
    Discriminator(_tag),
]
"""Settings of the type that `of` says."""
TAGS = {kind.__name__: kind for kind in (AlgorithmSettings, QuantizedSettings, FedMPQSettings, OwnSettings)}
"""The types of settings by the names that stand in pydantic's path to a fault."""
