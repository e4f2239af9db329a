"""FedPAQ and UVeQFed: float32 down, the quantized change of the weights up."""

import pytest
import tiny
import torch
from letters import START
from runs import Interfering, federation

from fedmpq.federated.messages import Kind, Message, decode, encode
from fedmpq.federated.server import Federation
from fedmpq.federated.tasks import TrainTask
from fedmpq.federated.worker import Worker
from fedmpq.quantization.packing import packed_size_of_layers

ALGORITHMS = ["fedpaq", "uveqfed"]
BUDGETS = (1, 2.9, 8)


def exchanged(data, algorithm, **changes):
    """One round: the run, its record, and each client's downlink and answer."""
    letters = {}

    def keep(task, outcome):
        letters[task.client] = task.downlink, outcome
        return outcome

    setup = tiny.setup(data, algorithm, budgets=BUDGETS, rounds=1, **changes)
    run = Federation(setup, Interfering(setup, keep))
    (record,) = run.rounds()
    return run, record, letters


def read(run, client, answer):
    """The change in an answer of round 1."""
    return decode(answer, run.layout, Kind.UPLINK, 1, client, run.setup.answer_coder(1, client))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("model", ["user_models:perceptron", "user_models:convolutional"])
def test_float32_goes_down_and_the_whole_bits_of_the_budget_come_up(data, algorithm, model):
    run, record, letters = exchanged(data, algorithm, network=model)
    sizes, rest = run.layout.sizes, 4 * run.layout.remainder_size
    for client, budget in enumerate(BUDGETS):
        downlink, answer = letters[client]
        assert decode(downlink, run.layout, Kind.DOWNLINK, 1, client).bits is None
        assert len(downlink) == START + 4 * sum(sizes) + rest
        whole = (int(budget),) * len(sizes)
        codes = packed_size_of_layers(sizes, whole)
        assert 0 <= codes - sum(sizes) * int(budget) / 8 < 8
        assert len(answer) == START + 5 * len(sizes) + codes + rest
        assert (record.clients[client].given, record.clients[client].left) == (None, whole)
    assert record.exchange.downlink_bytes == sum(len(downlink) for downlink, _ in letters.values())
    assert record.exchange.uplink_bytes == sum(len(answer) for _, answer in letters.values())
    assert record.state.consensus is None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("client", range(3))
def test_a_client_trains_in_full_precision_and_sends_its_change(data, algorithm, client):
    full = tiny.setup(data, "fp32", budgets=BUDGETS)
    setup = tiny.setup(data, algorithm, budgets=BUDGETS, activation_bits=2)
    worker, reference = Worker(setup), Worker(full)
    assert worker.activations is None
    sent = worker.layout.flatten(worker.model)
    downlink = encode(Message(Kind.DOWNLINK, 1, client, 0, 0.0, None, None, sent), worker.layout)
    task = TrainTask(1, client, downlink, cost=1)
    answer = decode(worker.train(task), worker.layout, Kind.UPLINK, 1, client, setup.answer_coder(1, client))
    trained = decode(reference.train(task), worker.layout, Kind.UPLINK, 1, client).model
    assert torch.equal(answer.model.remainder, trained.remainder)
    sizes, bits = worker.layout.sizes, int(BUDGETS[client])
    changes = (answer.model.weights, trained.weights - sent.weights)
    for found, true, scale in zip(*(change.split(sizes) for change in changes), answer.scales, strict=True):
        assert true.any()
        assert (found - true).abs().max() <= scale / (2**bits - 1.16)
        assert scale <= 2 * 2**0.5 * true.abs().max() * (1 + 1e-6)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("aggregation", ["weights", "updates"])
def test_the_server_adds_the_change_to_what_it_sent(data, algorithm, aggregation):
    run, record, letters = exchanged(data, algorithm, **{algorithm: {"aggregation": aggregation}})
    shares = [len(run.setup.partition.client(client)) / tiny.TRAIN for client in range(3)]
    changes = [read(run, client, letters[client][1]).model.weights for client in range(3)]
    expected = run.initial.model.weights + sum(share * c for share, c in zip(shares, changes, strict=True))
    torch.testing.assert_close(record.state.model.weights, expected)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_rounding_differs_by_round_and_client(data, algorithm):
    run = federation(data, algorithm)
    values, sizes, bits = torch.linspace(-1, 1, 50), [50], (2,)
    coders = [run.setup.answer_coder(*key) for key in ((1, 0), (1, 1), (2, 0), (1, 0))]
    one, client, round, again = (coder.encode(values, sizes, bits, torch.tensor([2.0])) for coder in coders)
    assert torch.equal(one, again)
    assert not any(torch.equal(one, other) for other in (client, round))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_whole_training_learns(data, algorithm):
    first, *_, last = federation(data, algorithm, budgets=(2, 4, 8), rounds=12, local_epochs=2).rounds()
    assert last.loss < 0.8 * first.loss
    assert last.accuracy > 0.6
