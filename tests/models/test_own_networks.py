"""Networks that a user brings: what works, and what is said of those that do not."""

import pytest
import torch
from torch import nn

from fedmpq.errors import UserError
from fedmpq.models import build_model

WORKING = ["Repeated", "Sequences", "transformer", "silu", "gelu", "relu6", "hardswish", "lazy"]


@pytest.mark.parametrize("name", WORKING)
def test_a_network_has_its_shapes_and_weights_by_the_seed_alone(name):
    models = [build_model(f"own_models:{name}", 3, 8, seed) for seed in (1, 1, 2)]
    first, again, other = ([p.detach() for p in model.parameters()] for model in models)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert models[0].training
    assert models[0](torch.zeros(2, 3, 8, 8)).shape == (2, 3)


def test_the_images_that_are_tried_leave_no_trace():
    model = build_model("own_models:lazy", 3, 8)
    norm = next(module for module in model if isinstance(module, nn.BatchNorm1d))
    assert int(norm.num_batches_tracked) == 0
    assert torch.equal(norm.running_mean, torch.zeros(16))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("own_models:raising", ["own_models:raising(3, 8) fails", "KeyError", "no such"]),
        ("own_models:alone", ["own_models:alone(3, 8) fails", "TypeError", "positional argument"]),
        ("own_models:wide", ["(2, 6)", "logits (2, 3)"]),
        ("own_models:pair", ["tuple", "logits (2, 3)"]),
        ("own_models:large_only", ["fails on images of 3 x 8 x 8", "RuntimeError"]),
        ("own_models:number", ["is a int", "a function or class to call"]),
        ("own_models:missing", ["cannot import", "missing"]),
        ("no_such_module:x", ["cannot import", "no_such_module"]),
        ("own_models:torch", ["is a module"]),
        ("resnet9", ["resnet9", "6n+2"]),
        ("vgg", ["vgg", "package.module:factory"]),
    ],
)
def test_a_network_that_fails_is_named_in_one_line(name, words):
    with pytest.raises(UserError) as caught:
        build_model(name, 3, 8)
    message = str(caught.value)
    assert message.startswith("model.network: ")
    assert "\n" not in message
    assert all(word in message for word in words), message
