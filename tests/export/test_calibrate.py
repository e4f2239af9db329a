import pytest
import tiny
import torch

from fedmpq.errors import UserError
from fedmpq.export.calibrate import calibrate
from fedmpq.export.packed import Card, Device
from fedmpq.federated.server import Federation

BUDGETS = (2, 4, 8)


def device_of(setup, bits):
    """A device with what the federation begins with."""
    server = Federation(setup, executor=None)
    return Device(Card.of(setup, 1), server.encoded(server.initial.model, (bits,) * len(server.layout.sizes), 1, 0))


@pytest.fixture
def setup(data):
    return tiny.setup(data, network="user_models:normed", activation_bits=4, budgets=BUDGETS)


def statistics(device):
    return {name: value for name, value in device.network.state_dict().items() if "running" in name}


@pytest.mark.parametrize(("budget", "able"), [(2, [0, 1, 2]), (3, [1, 2]), (8, [2])])
def test_statistics_are_those_of_all_images_of_clients_that_can_hold_the_model(setup, budget, able):
    device, outputs = device_of(setup, budget), []
    (norm,) = [module for module in device.modules() if isinstance(module, torch.nn.BatchNorm1d)]
    calibrate(device, setup, budget, images=1000)
    norm.register_forward_pre_hook(lambda _, inputs: outputs.append(inputs[0]))
    for client in able:
        device(torch.from_numpy(setup.dataset.train_images[setup.partition.client(client)]))
    seen = torch.cat(outputs).transpose(0, 1).flatten(1)
    torch.testing.assert_close(norm.running_mean, seen.mean(1), rtol=0.02, atol=0.02 * float(seen.std()))
    torch.testing.assert_close(norm.running_var, seen.var(1), rtol=0.05, atol=0)


def test_nothing_but_statistics_changes_and_it_runs_as_before(setup):
    device = device_of(setup, 4)
    before = {name: value.clone() for name, value in device.network.state_dict().items()}
    calibrate(device, setup, 4, images=8)
    after = device.network.state_dict()
    changed = {name for name, value in before.items() if value.is_floating_point() and not after[name].equal(value)}
    assert changed == set(statistics(device))
    images = torch.from_numpy(setup.dataset.test_images[:4].copy())
    torch.testing.assert_close(device(images)[:1], device(images[:1]))


def test_the_images_are_drawn_by_the_seed(data):
    def measured(seed):
        setup = tiny.setup(data, seed=seed, network="user_models:normed", budgets=BUDGETS)
        device = device_of(tiny.setup(data, network="user_models:normed", budgets=BUDGETS), 4)
        calibrate(device, setup, 4, images=4)
        return torch.cat([*statistics(device).values()])

    assert torch.equal(measured(0), measured(0))
    assert not torch.equal(measured(0), measured(1))


@pytest.mark.parametrize(
    ("network", "budget", "said"),
    [
        ("user_models:normed", 8.5, "no client has a budget of 8.5"),
        ("user_models:perceptron", 4, "the model has no batch norm"),
    ],
)
def test_where_it_is_not_possible_it_says_why(data, network, budget, said):
    setup = tiny.setup(data, network=network, budgets=BUDGETS)
    with pytest.raises(UserError, match=f"^--calibrate is not possible: {said}$"):
        calibrate(device_of(setup, 4), setup, budget, images=8)
