import pytest
import torch
from torch import nn

from fedmpq.errors import UserError
from fedmpq.models import build_model
from fedmpq.models.resnet import shortcut


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_number_of_parameters_as_published(depth, millions):
    found = parameters(build_model(f"resnet{depth}", 10, 32)) / 1e6
    assert found == pytest.approx(millions, abs=0.05 if depth == 110 else 0.0051)


@pytest.mark.parametrize("depth", [8, 20, 44])
def test_layers_are_named_in_the_order_in_which_the_signal_passes_them(depth):
    model = build_model(f"resnet{depth}", 10, 32).eval()
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert names == [*(f"conv{index}" for index in range(1, depth)), "fc"]
    passed = []
    for name in names:
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: passed.append(name))
    model(torch.zeros(1, 3, 16, 16))
    assert passed == names


def test_shortcuts_have_no_parameters():
    model = build_model("resnet20", 10, 32)
    own = {
        name.rstrip("0123456789.") for name, module in model.named_modules() if list(module.parameters(recurse=False))
    }
    assert own == {"conv", "norm", "fc"}
    assert all(conv.bias is None for conv in model.modules() if isinstance(conv, nn.Conv2d))


def test_a_shortcut_keeps_every_second_pixel_and_adds_channels_of_zeros():
    signal = torch.randn(2, 16, 8, 8)
    assert shortcut(signal, torch.zeros(2, 16, 8, 8)) is signal
    shorter = shortcut(signal, torch.zeros(2, 32, 4, 4))
    assert shorter.shape == (2, 32, 4, 4)
    assert torch.equal(shorter[:, 8:24], signal[:, :, ::2, ::2])
    assert not shorter[:, :8].any()
    assert not shorter[:, 24:].any()


def test_residual_blocks_whose_convolutions_are_zero_pass_the_signal_on():
    model = build_model("resnet20", 10, 32).eval()
    for index in range(2, 20):
        nn.init.zeros_(model.get_submodule(f"conv{index}").weight)
    outputs = []
    for name in ("relu1", "relu19"):
        model.get_submodule(name).register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    model(torch.randn(2, 3, 16, 16))
    first, last = outputs
    assert last.shape == (2, 64, 4, 4)
    assert torch.equal(last[:, 24:40], first[:, :, ::4, ::4])
    assert not last[:, :24].any()


@pytest.mark.parametrize(("classes", "size"), [(10, 32), (100, 32), (200, 64), (3, 8), (2, 15)])
def test_logits_for_any_number_of_classes_and_size(classes, size):
    assert build_model("resnet8", classes, size)(torch.randn(2, 3, size, size)).shape == (2, classes)


def test_weights_depend_on_the_seed_alone_and_nothing_else_is_disturbed():
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = weights(build_model("resnet8", 10, 32, seed=5))
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(weights(build_model("resnet8", 10, 32, seed=5)), first)
    assert not torch.equal(weights(build_model("resnet8", 10, 32, seed=6)), first)


def test_a_factory_of_the_users_own():
    model = build_model("user_models:linear", 4, 8, seed=3)
    assert model(torch.zeros(1, 3, 8, 8)).shape == (1, 4)
    assert torch.equal(weights(model), weights(build_model("user_models:linear", 4, 8, seed=3)))


@pytest.mark.parametrize(
    "name", ["resnet", "resnet9", "resnet2", "resnet0", "resnet21", "vgg16", "Resnet20", "resnet20 "]
)
def test_unknown_networks_are_refused_with_what_is_allowed(name):
    with pytest.raises(UserError, match=rf"^model\.network: '{name}' is not allowed; allowed: resnet"):
        build_model(name, 10, 32)


@pytest.mark.parametrize(
    "name",
    [
        "no_such_module:factory",
        "no.such.module:factory",
        "user_models:no_such_factory",
        "user_models:",
        ":linear",
        ".relative:linear",
        "user_models:nn",
    ],
)
def test_a_factory_that_is_not_there_is_named(name):
    with pytest.raises(UserError, match=rf"^model\.network: .*{name.replace('.', '[.]')}"):
        build_model(name, 10, 32)


def test_a_factory_that_returns_no_network_is_refused():
    with pytest.raises(
        UserError, match=r"^model\.network: 'user_models:number' returns int; allowed: a torch\.nn\.Module"
    ):
        build_model("user_models:number", 10, 32)
