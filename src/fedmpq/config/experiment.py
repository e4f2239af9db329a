"""One section of params.yaml: an experiment in groups, in the order of the pipeline, then its algorithms."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from fedmpq.config.algorithms import (
    ALGORITHM_NAMES,
    MAX_BITS,
    AlgorithmSettings,
    Bits,
    FedMPQSettings,
    Quantizer,
    Section,
)
from fedmpq.config.settings import Name, Positive, Settings, fault
from fedmpq.errors import UserError

Seed = Annotated[int, Field(ge=0)]

UNWRITTEN = "*"
"""Where pydantic has the algorithms of an experiment: no key of params.yaml."""


class DataSettings(Settings):
    """Which images, and what is done to them."""

    source: Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")]
    """A built-in data set, a folder of the user's own under data/raw/, or owner/name on the Hugging Face Hub."""
    image_column: str | None
    """Of a table; null: the one that holds images."""
    label_column: str | None
    """Of a table; null: the one that holds classes."""
    image_size: Annotated[int, Field(ge=8, le=512)] | None
    """Side in pixels to which images are scaled and cropped; null: as they are stored."""
    train_samples: Positive | None
    """Use this many training images (stratified, by the seed); null: all of them."""
    test_samples: Positive | None
    """Measure accuracy on this many test images (stratified, always the same); null: on all of them."""
    validation: Annotated[float, Field(gt=0, lt=1)]
    """Share of the training images that tuning holds out and measures on."""
    flip: bool
    """Augment: mirror each training image with probability 1/2."""
    crop_padding: Annotated[int, Field(ge=0, le=64)]
    """Augment: pad by so many pixels on each side and crop at random; 0: off."""


class PartitionSettings(Settings):
    """How the training images are divided among the clients."""

    clients: Positive
    """Number of clients, N."""
    min_samples: Positive
    """A partition that gives a client fewer images is drawn again."""
    max_redraws: Annotated[int, Field(ge=0, le=1_000_000)]
    """How often it is drawn again before giving up with an error."""
    seeds: Annotated[list[Seed], Field(min_length=1)]
    """Every algorithm runs once for each seed."""
    more_seeds: dict[Annotated[float, Field(gt=0)], list[Seed]] = Field(default_factory=dict, exclude=True)
    """By alpha: seeds of trainings at that alpha alone, besides `seeds`. They do not change what a seed gives."""

    @model_validator(mode="after")
    def _consistent(self) -> "PartitionSettings":
        if len(set(self.seeds)) != len(self.seeds):
            raise fault("seeds", self.seeds, "different seeds")
        for alpha, more in self.more_seeds.items():
            if len({*self.seeds, *more}) != len(self.seeds) + len(more):
                raise fault(f"more_seeds.{alpha:g}", more, f"different seeds, none of {self.seeds}")
        return self


class ModelSettings(Settings):
    """The network, and how many bits it may take."""

    network: Annotated[str, Field(min_length=1)]
    """`resnet<6n+2>`, or `package.module:factory` of the user's own."""
    budgets: list[Annotated[float, Field(ge=1, le=MAX_BITS)]]
    """Average bits per weight that each client can hold, one number a client."""
    full_precision: list[str]
    """Layers or parameters that are not quantized, by name or pattern; else all of two or more dimensions are."""
    activation_bits: Bits | None
    """Bits of the activations while clients train; null: floating point."""
    quantizer: Quantizer
    """How a layer's scale is found from its weights, unless the algorithm says otherwise."""


class TrainingSettings(Settings):
    """What clients and server compute."""

    rounds: Positive
    """Global rounds, T."""
    local_epochs: Positive
    """Passes over its own images that a client makes in a round, E."""
    batch_size: Positive
    """Images in a batch."""
    lr: Annotated[float, Field(gt=0)]
    """Learning rate of SGD."""
    momentum: Annotated[float, Field(ge=0, lt=1)]
    """Momentum of SGD."""
    weight_decay: Annotated[float, Field(ge=0)]
    """Weight decay of SGD."""
    precision: Literal["auto", "float32", "bfloat16"]
    """Arithmetic of training; auto: bfloat16 autocast where the hardware has it."""
    averaging: Literal["samples", "uniform"]
    """Weight of a client in the server's average: its number of images, or one."""
    evaluate_quantized: Annotated[int, Field(ge=0)]
    """In so many of the last rounds, evaluate, besides, the global model at every client's bit-widths."""


class ParticipationSettings(Settings):
    """Who takes part in a round, who answers, and how long that takes in simulated time."""

    share: Annotated[float, Field(gt=0, le=1)]
    """Share of the clients that take part in a round (at least one does)."""
    min_answers: Positive
    """With fewer accepted answers a round is repeated, with others as far as there are any."""
    max_repeats: Annotated[int, Field(ge=0)]
    """How often a round is repeated before giving up with an error."""
    dropout: Annotated[float, Field(ge=0, lt=1)]
    """Probability that a client that is asked gives no answer."""
    deadline: Annotated[float, Field(gt=0)] | None
    """Simulated seconds after which an answer is not waited for; null: all are."""
    images_per_second: Annotated[float, Field(gt=0)]
    """Simulated speed at which a median client trains."""
    bandwidth: Annotated[float, Field(gt=0)]
    """Simulated bytes per second to and from a median client."""
    speed_spread: Annotated[float, Field(ge=0, le=3)]
    """Standard deviation over clients of the logarithms of both; 0: all are alike."""


class Experiment(Settings):
    """One section of params.yaml."""

    data: DataSettings
    partition: PartitionSettings
    model: ModelSettings
    training: TrainingSettings
    participation: ParticipationSettings
    algorithms: Annotated[dict[Name, Section], Field(alias=UNWRITTEN)]
    """By name. In params.yaml they stand beside the groups."""

    @model_validator(mode="before")
    @classmethod
    def _known(cls, tree: Any) -> Any:
        """Take as algorithms all sections that are called as one or have an `of`."""
        if not isinstance(tree, dict):
            raise PydanticCustomError("group", f"a group of the keys {', '.join(PLACES)}")
        algorithms = {}
        for name, section in tree.items():
            if isinstance(section, dict) and (name in ALGORITHM_NAMES or "of" in section):
                algorithms[name] = {"of": name, **section}
            elif name not in PLACES:
                raise fault(name, section, _place(name), "unknown")
            elif name in ALGORITHM_NAMES and section is not None:
                raise fault(name, section, "a group of keys")
        return {**{name: tree[name] for name in GROUPS if name in tree}, UNWRITTEN: algorithms}

    @model_validator(mode="after")
    def _consistent(self) -> "Experiment":
        clients, budgets, answers = self.partition.clients, self.model.budgets, self.participation.min_answers
        if len(budgets) != clients:
            raise fault("model.budgets", budgets, f"one number for each of the {clients} clients")
        if answers > self.asked:
            raise fault("participation.min_answers", answers, f"1 to {self.asked}, those asked")
        for name, settings in self.algorithms.items():
            if isinstance(settings, FedMPQSettings) and settings.min_bits > min(budgets):
                raise fault(f"{name}.min_bits", settings.min_bits, f"1 to {min(budgets):g}, the smallest budget")
        return self

    @property
    def asked(self) -> int:
        """Clients that are asked in a round: their share, halves up, and at least one."""
        return max(1, int(self.participation.share * self.partition.clients + 0.5))

    def at(self, alpha: float) -> "Experiment":
        """This experiment with all seeds of its trainings at `alpha` as `partition.seeds`."""
        seeds = [*self.partition.seeds, *self.partition.more_seeds.get(alpha, [])]
        partition = self.partition.model_copy(update={"seeds": seeds, "more_seeds": {}})
        return self.model_copy(update={"partition": partition})

    def algorithm(self, name: str) -> AlgorithmSettings:
        """The settings of the algorithm called `name`.

        Raises:
            UserError: this experiment has no section for it.
        """
        if name not in self.algorithms:
            raise UserError(
                f"unknown algorithm {name!r}; allowed: {', '.join(self.algorithms)}, the sections of the experiment,"
                f" and in a section of its own, `of:` one of {', '.join(ALGORITHM_NAMES)} or package.module:Class"
            )
        return self.algorithms[name]

    def quantizer(self, algorithm: str) -> str:
        """The estimator of scales that is in force for `algorithm`."""
        return self.algorithm(algorithm).quantizer or self.model.quantizer

    def tree(self) -> dict[str, Any]:
        """The section as params.yaml has it."""
        tree = self.model_dump(by_alias=True)
        return tree | tree.pop(UNWRITTEN)

    def flat(self, algorithm: str) -> dict[str, Any]:
        """What determines a run by `algorithm`, but for the seed, by dotted key; of the algorithm's own, by its key."""
        quantizer, tree = self.quantizer(algorithm), self.tree()
        shared = {f"{group}.{key}": value for group in GROUPS for key, value in tree[group].items()}
        for key in ("data.validation", "partition.seeds"):
            del shared[key]
        own = {key: value for key, value in tree[algorithm].items() if key != "quantizer"}
        return shared | {"model.quantizer": quantizer} | own


GROUPS = {name: field.annotation for name, field in Experiment.model_fields.items() if name != "algorithms"}
"""The groups of an experiment that all algorithms share, and their types."""
PLACES = (*GROUPS, *ALGORITHM_NAMES)


def _place(key: str) -> str:
    """Where a key that is no group and no algorithm belongs."""
    for group, kind in GROUPS.items():
        if key in kind.model_fields:
            return f"it belongs to a group: {group}.{key}"
    return f"allowed there: {', '.join(PLACES)}"
