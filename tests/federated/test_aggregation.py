import pytest
import torch

from fedmpq.federated.aggregation import Average
from fedmpq.federated.allocation import Consensus
from fedmpq.federated.layout import FlatModel
from fedmpq.federated.messages import Kind, Message

BUDGETS = [2.0, 8.0]
CURRENT = FlatModel(torch.tensor([1.0, 2.0]), torch.tensor([10.0]))


def message(client, weights, remainder, samples=0, loss=0.0, bits=None, kind=Kind.UPLINK):
    scales = bits and torch.ones(len(bits))
    model = FlatModel(torch.tensor(weights), torch.tensor(remainder))
    return Message(kind, 1, client, samples, loss, bits, scales, model)


SENT = [message(0, [0.5, 2.5], [10.0], bits=(2, 4), kind=Kind.DOWNLINK), message(1, [1.0, 2.1], [10.0], bits=(8, 8))]
RECEIVED = [
    message(0, [0.5, 3.5], [14.0], samples=30, loss=1.0, bits=(1, 4)),
    message(1, [2.0, 2.3], [6.0], samples=10, loss=3.0, bits=(8, 5)),
]


def average(aggregation, averaging, order=(0, 1)):
    mean = Average(CURRENT, aggregation, averaging, BUDGETS)
    for client in order:
        mean.add(RECEIVED[client], SENT[client])
    return mean


@pytest.mark.parametrize(
    ("aggregation", "averaging", "weights", "remainder"),
    [
        ("weights", "samples", [0.75 * 0.5 + 0.25 * 2, 0.75 * 3.5 + 0.25 * 2.3], 12.0),
        ("weights", "uniform", [1.25, 2.9], 10.0),
        ("updates", "samples", [1 + 0.25 * 1, 2 + 0.75 * 1 + 0.25 * 0.2], 10 + 0.75 * 4 - 0.25 * 4),
        ("updates", "uniform", [1 + 0.5, 2 + 0.5 * 1.2], 10.0),
    ],
)
def test_two_clients_by_hand(aggregation, averaging, weights, remainder):
    model = average(aggregation, averaging).model()
    assert model.weights.tolist() == pytest.approx(weights)
    assert model.remainder.tolist() == pytest.approx([remainder])
    assert model.weights.dtype == model.remainder.dtype == torch.float32


@pytest.mark.parametrize("averaging", ["samples", "uniform"])
def test_loss_is_over_images_and_bits_are_weighted_by_samples_and_budget(averaging):
    mean = average("weights", averaging)
    assert mean.loss == (30 * 1 + 10 * 3) / 40
    # 30 x 2 to 10 x 8: bits (60 + 640) / 140, (240 + 400) / 140; deltas 60 / 140, 240 / 140.
    assert mean.consensus() == Consensus((5, 5), (0, 2))


@pytest.mark.parametrize("aggregation", ["weights", "updates"])
def test_one_client_alone(aggregation):
    mean = average(aggregation, "samples", order=(1,))
    expected = [2.0, 2.3] if aggregation == "weights" else [2.0, 2.2]
    assert mean.model().weights.tolist() == pytest.approx(expected)
    assert mean.consensus() == Consensus((8, 5), (0, 3))


def test_a_client_that_changes_nothing_adds_no_update_however_coarse_its_codes():
    mean = Average(CURRENT, "updates", "samples", BUDGETS)
    mean.add(message(0, [0.5, 2.5], [10.0], samples=3, bits=(2, 4)), SENT[0])
    assert torch.equal(mean.model().weights, CURRENT.weights)


def test_full_precision_agrees_on_no_bits():
    mean = Average(CURRENT, "weights", "samples", BUDGETS)
    mean.add(message(0, [0.5, 2.5], [10.0], samples=3), message(0, [1.0, 2.0], [10.0]))
    assert mean.consensus() is None


def test_sums_are_in_double_precision():
    mean = Average(CURRENT, "weights", "uniform", [4.0] * 101)
    for client in range(101):
        value = 1e8 if client == 0 else 1.0
        mean.add(message(client, [value, 0.0], [0.0], samples=1), SENT[0])
    assert mean.model().weights[0] == torch.tensor((1e8 + 100) / 101)


def test_what_comes_in_is_left_as_it_was():
    before = [torch.cat([m.model.weights, m.model.remainder]) for m in (*SENT, *RECEIVED)]
    for aggregation in ("weights", "updates"):
        average(aggregation, "samples").model()
    after = [torch.cat([m.model.weights, m.model.remainder]) for m in (*SENT, *RECEIVED)]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert CURRENT.weights.tolist() == [1, 2]
