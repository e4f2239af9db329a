"""A trained model as one file, the way a device gets it: model.fmpq.

    header     a line of JSON: see `Card`
    message    the model as it travels to a client: see `fedmpq.federated.messages`

Reading it takes numpy and torch alone.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedmpq.data.batches import normalize
from fedmpq.errors import UserError
from fedmpq.extension import one_line
from fedmpq.federated.activations import ActivationQuantizer
from fedmpq.federated.layout import Layout
from fedmpq.federated.messages import Kind, RejectedMessage, decode
from fedmpq.models import build_model
from fedmpq.quantization.codes import QUANTIZERS
from fedmpq.quantization.rounding import Nearest

if TYPE_CHECKING:
    from fedmpq.federated.server import Federation, ServerState
    from fedmpq.federated.setup import Setup


@dataclass(frozen=True)
class Card:
    """What has to be known of a model to make use of its message."""

    network: str
    classes: list[str]
    """Their names, in the order of the logits."""
    image_size: int
    mean: list[float]
    """As `std`: see `fedmpq.data.arrays.Dataset`."""
    std: list[float]
    full_precision: list[str]
    quantizer: str
    activation_bits: int | None
    round: int
    """Of the message."""

    @classmethod
    def of(cls, setup: "Setup", round: int) -> "Card":
        """The card of a message of `round` in the run that `setup` describes."""
        settings, data = setup.experiment.model, setup.dataset
        return cls(
            network=settings.network,
            classes=data.classes,
            image_size=data.image_size,
            mean=data.mean,
            std=data.std,
            full_precision=settings.full_precision,
            quantizer=setup.experiment.quantizer(setup.algorithm_name),
            activation_bits=settings.activation_bits if setup.algorithm.quantizes_activations else None,
            round=round,
        )


class Device(nn.Module):
    """What a device runs, in evaluation mode: logits (N, classes) of images (N, S, S, 3), uint8."""

    def __init__(self, card: Card, message: bytes):
        """Build the network of `card` with the weights of `message`.

        Raises:
            RejectedMessage: it is damaged, or of another network.
            UserError: the network cannot be built.
        """
        super().__init__()
        self.card, bits = card, card.activation_bits
        network = build_model(card.network, len(card.classes), card.image_size)
        self.activations = ActivationQuantizer(network, bits) if bits else None
        self.layout, self.quantizer = Layout.of(network, card.full_precision), QUANTIZERS[card.quantizer]
        self.message = decode(message, self.layout, Kind.DOWNLINK, card.round, 0, Nearest(self.quantizer))
        if self.activations:
            self.activations.enabled = self.message.bits is not None
        self.layout.load(self.message.model, network)
        self.network = network.to(memory_format=torch.channels_last)
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(card, name)))
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        return self.network(normalize(images, self.mean, self.std))

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The same, of and as an array."""
        return self(torch.tensor(images)).numpy()


def pack(card: Card, message: bytes) -> bytes:
    """The content of model.fmpq."""
    return json.dumps(asdict(card)).encode() + b"\n" + message


def pack_float32(server: "Federation", state: "ServerState") -> bytes:
    """The content of model.fmpq for the global model of `state`, no bit of which is lost."""
    return pack(Card.of(server.setup, state.round), server.encoded(state.model, None, state.round, 0))


def load(path: str | Path, network: str | None = None) -> Device:
    """The model of a file model.fmpq.

    >>> model = fedmpq.load("model.fmpq")
    >>> size = model.card.image_size
    >>> images = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    >>> model(images).shape  # logits; the names of the classes are model.card.classes
    torch.Size([2, 10])

    Args:
        path: the file.
        network: `package.module:factory` if the model is of a factory of your own, which is imported and called.

    Raises:
        UserError: the file is missing or damaged, or names another factory.
    """
    try:
        header, _, message = Path(path).read_bytes().partition(b"\n")
        card = Card(**json.loads(header))
        if ":" in card.network and card.network != network:  # A file must not decide what code is run.
            raise UserError(f"{path} is of a network of your own; allow that it is called: network={card.network!r}")
        return Device(card, message)
    except (OSError, ValueError, TypeError, KeyError, RejectedMessage) as error:
        raise UserError(f"{path} is missing or damaged: {one_line(error)}") from error


def _load_pyfunc(path: str, config: dict[str, str]) -> Device:
    """What MLflow calls to load a model that it keeps: whoever loads one there lets its code run."""
    return load(path, config["network"])
