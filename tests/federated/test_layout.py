import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedmpq.errors import UserError
from fedmpq.federated.layout import FlatModel, Layout
from fedmpq.models import build_model


def test_layers_of_a_resnet():
    model = build_model("resnet20", 10, 32)
    layout = Layout.of(model)
    assert layout.layers == [*(f"conv{index}" for index in range(1, 20)), "fc"]
    assert layout.sizes[:2] == [3 * 16 * 9, 16 * 16 * 9]
    assert layout.sizes[-1] == 64 * 10
    norms = sum(4 * module.num_features for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    assert layout.remainder_size == norms + 10


def test_batch_norm_and_biases_are_the_remainder_and_counters_do_not_travel():
    layout = Layout.of(build_model("user_models:convolutional", 3, 8))
    assert list(layout.weights) == ["0.weight", "5.weight"]
    assert list(layout.remainder) == ["0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "5.bias"]


@pytest.mark.parametrize("name", ["resnet8", "user_models:convolutional", "user_models:normed", "user_models:linear"])
def test_a_model_goes_through_flat_vectors_unchanged(name):
    model, other = build_model(name, 3, 8, seed=1), build_model(name, 3, 8, seed=2)
    model(torch.randn(4, 3, 8, 8))
    layout = Layout.of(model)
    flat = layout.flatten(model)
    assert (flat.weights.shape, flat.remainder.shape) == ((sum(layout.sizes),), (layout.remainder_size,))
    layout.load(flat, other)
    floats = {key: value for key, value in model.state_dict().items() if value.is_floating_point()}
    assert {*layout.weights, *layout.remainder} == {*floats}
    assert all(torch.equal(other.state_dict()[key], value) for key, value in floats.items())
    assert all(torch.equal(value, floats[key]) for key, value in layout.state_dict(flat).items())


def test_flat_vectors_are_copies_whatever_the_memory_format():
    model = build_model("resnet8", 3, 8)
    before = Layout.of(model).flatten(model)
    layout = Layout.of(model.to(memory_format=torch.channels_last))
    flat = layout.flatten(model)
    assert torch.equal(flat.weights, before.weights)
    flat.weights.zero_()
    assert torch.equal(layout.flatten(model).weights, before.weights)
    loaded = layout.state_dict(before)
    loaded["conv1.weight"].zero_()
    assert before.weights[: layout.sizes[0]].any()


def test_split_gives_views_in_order():
    layout = Layout.of(build_model("user_models:convolutional", 3, 8))
    vector = torch.arange(float(sum(layout.sizes)))
    pieces = dict(layout.split(vector, layout.weights))
    assert {key: piece.shape for key, piece in pieces.items()} == layout.weights
    assert torch.equal(torch.cat([piece.flatten() for piece in pieces.values()]), vector)
    pieces["0.weight"].zero_()
    assert not vector[: layout.sizes[0]].any()


SHAPES = st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(1, 3), max_size=2).map(torch.Size), max_size=2)
LAYOUTS = st.builds(Layout, SHAPES, SHAPES)


@given(LAYOUTS, LAYOUTS)
def test_digests_tell_layouts_apart(one, other):
    def content(layout):
        return [list(part.items()) for part in (layout.weights, layout.remainder)]

    assert len(one.digest) == 8
    assert (one.digest == other.digest) == (content(one) == content(other))


def test_a_model_without_a_layer_to_quantize_is_refused():
    with pytest.raises(UserError, match=r"^model: nothing of it is quantized; allowed: .*two dimensions or more"):
        Layout.of(build_model("user_models:no_layers", 3, 8))


def test_finite_models():
    good = torch.zeros(2)
    assert FlatModel(good, torch.zeros(0)).is_finite()
    for bad in (float("nan"), float("inf"), -float("inf")):
        assert not FlatModel(torch.tensor([0, bad]), good).is_finite()
        assert not FlatModel(good, torch.tensor([bad])).is_finite()
