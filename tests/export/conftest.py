import pytest
import tiny
import torch

from fedmpq.export.packed import Card
from fedmpq.federated.layout import FlatModel
from fedmpq.federated.server import Federation


@pytest.fixture
def message(data):
    """A function that makes card and message of a network with random weights and ranges of activations."""

    def make(network, bits, activation_bits=4, quantizer="full-range"):
        changes = {"network": network, "activation_bits": activation_bits, "quantizer": quantizer}
        setup = tiny.setup(data, **changes)
        server, generator = Federation(setup, executor=None), torch.Generator().manual_seed(0)
        model, layout, _ = setup.build_model()
        for _ in range(2):
            model(torch.randn(16, 3, 8, 8, generator=generator))
        flat = layout.flatten(model)
        noise = 0.1 * torch.randn(flat.weights.shape, generator=generator)
        widths = bits and tuple(bits[layer % len(bits)] for layer in range(len(layout.sizes)))
        return Card.of(setup, 2), server.encoded(FlatModel(flat.weights + noise, flat.remainder), widths, 2, 0)

    return make


@pytest.fixture
def images():
    """More images than any batch that a network was traced with."""
    return torch.randint(0, 256, (50, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
