from dataclasses import replace

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedmpq.engine.executors import Sequential
from fedmpq.federated import calibration
from fedmpq.federated.messages import Kind, decode
from fedmpq.federated.server import Federation
from fedmpq.federated.tasks import CalibrateTask, Failure
from fedmpq.federated.worker import Worker

NORMED = {"network": "user_models:normed", "activation_bits": 4}


@pytest.fixture
def setup(data):
    return tiny.setup(data, "fedmpq_plus", budgets=(2, 4, 8), **NORMED)


class Changed(Sequential):
    """Gives for what clients measure what `change` makes of it."""

    def __init__(self, setup, change):
        super().__init__(setup)
        self.change, self.seen = change, []

    def run(self, tasks):
        for task, outcome in super().run(tasks):
            if isinstance(task, CalibrateTask):
                self.seen.append(task)
                outcome = self.change(task, outcome)
            yield task, outcome


@given(st.lists(st.integers(2, 40), min_size=1, max_size=4), st.integers(0, 99))
def test_moments_of_clients_together_are_those_of_all_images(counts, seed):
    generator = torch.Generator().manual_seed(seed)
    parts = [3 * torch.randn(count, 5, generator=generator) + i for i, count in enumerate(counts)]
    own = [torch.stack([part.mean(0), part.var(0, unbiased=False)]) for part in parts]
    mean, variance = calibration.pool(counts, own)
    together = torch.cat(parts)
    torch.testing.assert_close(mean, together.mean(0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(variance, together.var(0, unbiased=False), atol=1e-5, rtol=1e-4)


def test_measured_are_the_means_over_batches_of_what_enters_and_nothing_else_changes():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)).eval()
    batches = list(torch.randn(3, 8, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    parameters = [parameter.clone() for parameter in model.parameters()]
    mean, variance = calibration.read(calibration.measure(model, batches), model)
    entering = torch.stack([model[0](batch) for batch in batches]).transpose(1, 2).flatten(2)
    torch.testing.assert_close(mean, entering.mean(2).mean(0).detach())
    torch.testing.assert_close(variance, entering.var(2).mean(0).detach())
    assert all(old.equal(new) for old, new in zip(parameters, model.parameters(), strict=True))
    assert model[1].momentum == 0.1
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("count", [1, 2, 31, 33, 65, 1000])
def test_batches_hold_different_images_of_the_client_and_never_one_alone(setup, count):
    batches = calibration.chosen(setup.partition, 1, count, 0, 5)
    images = [image for batch in batches for image in batch]
    assert len(set(images)) == len(images) == (0 if count == 1 else min(count, len(setup.partition.client(1))))
    assert set(images) <= set(setup.partition.client(1))
    assert all(2 <= len(batch) <= calibration.BATCH for batch in batches)


def test_images_are_drawn_by_seed_and_round(setup):
    first, same, other = (calibration.chosen(setup.partition, 1, 8, 0, number)[0].tolist() for number in (1, 1, 2))
    assert first == same != other


def test_ranges_of_activations_stay_as_they_are(setup):
    worker, server = Worker(setup), Federation(setup, None)
    model = server.encoded(server.initial.model, (4,) * len(server.layout.sizes), 1, 1)
    worker.calibrate(CalibrateTask(1, 1, model, True, 16))
    sent = decode(model, server.layout, Kind.DOWNLINK, 1, 1, setup.coder).model
    left = worker.layout.flatten(worker.model)
    names = [key for key, shape in server.layout.remainder.items() for _ in range(shape.numel())]
    kept = torch.tensor(["running" not in name for name in names])
    assert torch.equal(left.remainder[kept], sent.remainder[kept])
    assert not torch.equal(left.remainder, sent.remainder)


def test_each_client_measures_the_model_that_it_gets_next_and_the_global_model_has_it(setup):
    executor = Changed(setup, lambda task, outcome: outcome)
    server = Federation(setup, executor)
    first = next(server.rounds())
    assert [task.client for task in executor.seen] == [0, 1, 2]
    view = server.view(first.state)
    for task in executor.seen:
        sent = decode(task.model, server.layout, Kind.DOWNLINK, 1, task.client, setup.coder)
        assert sent.bits == setup.algorithm.allocate(view, setup.experiment.model.budgets[task.client])
    server.layout.load(first.state.model, server.model)
    (norm,) = calibration.norms(server.model)
    moments = [calibration.read(server.executor.worker.calibrate(task), server.model) for task in executor.seen]
    held = [len(setup.partition.client(client)) for client in range(3)]
    bits = [setup.algorithm.allocate(view, budget) for budget in (2, 4, 8)]
    weights = [
        n * sum(b * p for b, p in zip(own, server.layout.sizes, strict=True)) for n, own in zip(held, bits, strict=True)
    ]
    expected = calibration.pool([float(weight) for weight in weights], moments)
    torch.testing.assert_close(torch.stack([norm.running_mean, norm.running_var]), expected)


def test_activations_are_quantized_for_devices_and_not_for_the_global_model(data):
    changes = {"network": "resnet8", "activation_bits": 4, "evaluate_quantized": 1, "rounds": 1}
    setup = tiny.setup(data, "fedmpq_plus", budgets=(2, 4, 8), **changes)
    executor = Changed(setup, lambda task, outcome: outcome)
    list(Federation(setup, executor).rounds())
    assert [(task.client, task.quantized_activations) for task in executor.seen] == [
        *((client, False) for client in (0, 1, 2)),
        (2, True),  # for a device of 8 bits, 4 and 2: by those that can hold its model
        *((client, True) for client in (1, 2)),
        *((client, True) for client in (0, 1, 2)),
    ]
    worker, task = executor.worker, executor.seen[-1]
    assert worker.calibrate(task) != worker.calibrate(replace(task, quantized_activations=False))


@pytest.mark.parametrize(
    "fault",
    [
        lambda data: Failure("gone"),
        lambda data: data[:-4],
        lambda data: b"",
        lambda data: b"\x00\x00\xc0\x7f" + data[4:],  # NaN
        lambda data: data[:-4] + b"\x00\x00\x80\xbf",  # a variance of -1
        lambda data: b"\x00\x00\x00\x7f" + data[4:],  # 1.7e38
    ],
)
def test_what_cannot_be_is_left_out(setup, fault):
    def others(task, outcome):
        return fault(outcome) if task.client == 1 else outcome

    def absent(task, outcome):
        return Failure("absent") if task.client == 1 else outcome

    found, expected = (next(Federation(setup, Changed(setup, change)).rounds()) for change in (others, absent))
    assert torch.equal(found.state.model.remainder, expected.state.model.remainder)
    assert found.accuracy == expected.accuracy


def test_where_nobody_measures_the_averages_stay(setup, data):
    silent = next(Federation(setup, Changed(setup, lambda *_: Failure("gone"))).rounds())
    without = tiny.setup(data, "fedmpq_plus", budgets=(2, 4, 8), **NORMED, **{"fedmpq_plus.calibration": 0})
    averaged = next(Federation(without, Sequential(without)).rounds())
    assert torch.equal(silent.state.model.remainder, averaged.state.model.remainder)


def test_bytes_count_what_is_measured_and_the_last_models(data):
    def bytes_of(calibration):
        changes = NORMED | {"rounds": 2, "fedmpq_plus.calibration": calibration}
        setup = tiny.setup(data, "fedmpq_plus", budgets=(2, 4, 8), **changes)
        records = list(Federation(setup, Sequential(setup)).rounds())
        return [(record.exchange.uplink_bytes, record.exchange.downlink_bytes) for record in records]

    with_it, without = bytes_of(8), bytes_of(0)
    moments = 3 * 2 * 16 * 4
    assert [up for up, _ in with_it] == [up + moments for up, _ in without]
    assert with_it[0][1] == without[0][1]
    assert with_it[1][1] == pytest.approx(2 * without[1][1], rel=0.2)
