"""A client trains any network: shared modules, attention, embeddings, other activations."""

import numpy as np
import pytest
import torch
from torch import nn

from fedmpq.errors import UserError
from fedmpq.federated.activations import ActivationQuantizer
from fedmpq.federated.client import LocalTraining
from fedmpq.federated.layout import Layout
from fedmpq.models import build_model
from fedmpq.quantization.codes import FULL_RANGE
from fedmpq.quantization.fake import quantize_activation


def trained(name, bits=4, steps=3):
    """A network of `own_models` after some quantized steps, its layout, and the last step's training."""
    model = build_model(f"own_models:{name}", 3, 8)
    layout = Layout.of(model)
    weights = layout.flatten(model).weights.split(layout.sizes)
    scales = torch.stack([FULL_RANGE.scale(layer, bits) for layer in weights])
    settings = type("Settings", (), {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0})
    training = LocalTraining(model, layout, settings, FULL_RANGE, (bits,) * len(layout.sizes), scales, 0.01)
    optimizer = training.configure_optimizers()
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        batch = torch.randn(8, 3, 8, 8, generator=generator), torch.arange(8) % 3
        optimizer.zero_grad()
        training.training_step(batch, 0).backward()
        optimizer.step()
    return model, layout, training


@pytest.mark.parametrize("name", ["Repeated", "Sequences", "transformer", "gelu"])
def test_every_layer_is_trained_on_its_grid(name):
    before = build_model(f"own_models:{name}", 3, 8).state_dict()
    model, layout, training = trained(name)
    assert np.isfinite(training.mean_loss)
    moved = [key for key in layout.weights if not torch.equal(model.state_dict()[key], before[key])]
    assert moved == list(layout.weights)


def test_a_shared_module_counts_once_and_moves_as_one():
    model, layout, training = trained("Repeated")
    assert layout.layers == ["first", "inner", "last"]
    assert training.places[1] == ["inner.weight", "tied.weight"]
    assert model.again is model.inner
    assert model.tied.weight is model.inner.weight


def test_all_that_has_two_dimensions_is_quantized():
    layout = Layout.of(build_model("own_models:Sequences", 3, 8))
    wanted = ["rows", "positions", "attention.in_proj_weight", "attention.out_proj", "up", "volume", "last"]
    assert layout.layers == wanted
    vit = Layout.of(build_model("own_models:transformer", 3, 8))
    assert {"class_token", "conv_proj", "encoder.pos_embedding"} <= {*vit.layers}
    assert sum(vit.sizes) > 0.9 * (sum(vit.sizes) + vit.remainder_size)


def test_what_the_user_names_is_not_quantized():
    model = build_model("own_models:transformer", 3, 8)
    layout = Layout.of(model, ["class_token", "encoder.layers.*"])
    assert layout.layers == ["conv_proj", "encoder.pos_embedding", "heads.head"]
    assert {"class_token", "encoder.layers.encoder_layer_0.mlp.0.weight"} <= layout.remainder.keys()
    with pytest.raises(UserError, match=r"full_precision: 'head' fits no layer; allowed: .*heads\.head"):
        Layout.of(model, ["head"])
    with pytest.raises(UserError, match="nothing of it is quantized"):
        Layout.of(model, ["*"])


def test_one_line_says_what_is_quantized():
    model = build_model("resnet20", 10, 32)
    assert Layout.of(model).describe(model) == (
        "20 layers, 99.0 % of 271,098 values quantized; not: BatchNorm2d.weight, BatchNorm2d.bias,"
        " BatchNorm2d.running_mean, BatchNorm2d.running_var, Linear.bias"
    )


@pytest.mark.parametrize("name", ["silu", "gelu", "hardswish"])
def test_activations_below_0_have_signed_codes(name):
    model = build_model(f"own_models:{name}", 3, 8)
    quantizer = ActivationQuantizer(model, 3)
    (layer,) = quantizer.layers
    outputs = []
    layer.register_forward_hook(lambda _m, _i, output: outputs.append(output))
    model(torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    (output,) = outputs
    assert output.min() < 0 < output.max()
    assert len(output.unique()) <= 8
    assert 0 in output
    ranges = {key for key in Layout.of(model).remainder if "activation" in key}
    assert ranges == {"2.activation_maximum", "2.activation_minimum"}


def test_a_range_beside_0_keeps_0_and_saturates():
    values = torch.tensor([-9.0, -1.0, -0.2, 0.0, 0.4, 2.0, 9.0])
    found = quantize_activation(values, torch.tensor(2.0), 2, torch.tensor(-1.0))
    assert found.tolist() == [-1, -1, 0, 0, 0, 2, 2]


def test_without_a_known_activation_the_model_is_refused():
    with pytest.raises(UserError, match="none of the layers ReLU, ReLU6, GELU, SiLU"):
        ActivationQuantizer(nn.Sequential(nn.Linear(2, 2)), 4)
