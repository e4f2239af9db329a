import pytest
import tiny

from fedmpq.engine.executors import Sequential
from fedmpq.errors import UserError
from fedmpq.export.calibrate import calibrate
from fedmpq.export.packed import Card, Device
from fedmpq.federated.server import Federation

BUDGETS = (2, 4, 8)


def device_of(setup, bits, state=None):
    """A device with what the federation begins with."""
    server = Federation(setup, executor=None)
    state = state or server.initial
    return Device(Card.of(setup, 3), server.encoded(state.model, bits, 3, 0))


def test_a_device_gets_what_its_accuracy_was_measured_with(data):
    changes = {"network": "user_models:normed", "activation_bits": 4, "evaluate_quantized": 1, "rounds": 3, "lr": 0.01}
    setup = tiny.setup(data, "fedmpq_plus", budgets=(3, 3, 3), **changes)
    server = Federation(setup, Sequential(setup))
    *_, last = server.rounds()
    device = device_of(setup, setup.algorithm.allocate(server.view(last.state), 3), last.state)
    before = [value.clone() for value in device.network.state_dict().values()]
    calibrate(device, setup, 3, setup.algorithm.calibration)
    assert not all(old.equal(new) for old, new in zip(before, device.network.state_dict().values(), strict=True))
    said = device.predict(setup.dataset.test_images).argmax(1)
    assert (said == setup.dataset.test_labels).mean() == pytest.approx(last.device_accuracy)


def test_a_network_without_batch_norm_stays(data):
    setup = tiny.setup(data, "fedmpq_plus", budgets=BUDGETS)
    device = device_of(setup, None)
    before = {key: value.clone() for key, value in device.network.state_dict().items()}
    calibrate(device, setup, 8.5, 8)
    assert all(value.equal(before[key]) for key, value in device.network.state_dict().items())


def test_a_model_that_no_client_can_hold_is_said(data):
    setup = tiny.setup(data, "fedmpq_plus", budgets=BUDGETS, network="user_models:normed")
    with pytest.raises(UserError, match=r"^batch norm cannot be calibrated, no client has a budget of 8\.5: "):
        calibrate(device_of(setup, None), setup, 8.5, 8)
