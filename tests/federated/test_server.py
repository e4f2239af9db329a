import math
from fractions import Fraction

import pytest
import tiny
import torch
import torch.nn.functional as F
from runs import content, federation

from fedmpq.config import ALGORITHM_NAMES
from fedmpq.data.batches import Batches, normalize
from fedmpq.engine.executors import Sequential
from fedmpq.federated.allocation import Consensus, prune_and_grow
from fedmpq.federated.messages import Kind, decode
from fedmpq.federated.server import Federation, ServerState
from fedmpq.models import build_model

RATE = 0.1


# The average, against what is written here by hand


def fedavg_by_hand(setup, momentum):
    """Plain FedAvg of the network's own tensors: after each round its state, test accuracy, test and training loss."""
    dataset, settings = setup.dataset, setup.experiment
    statistics = torch.tensor(dataset.mean), torch.tensor(dataset.std)

    def network():
        return build_model(settings.model.network, tiny.CLASSES, dataset.image_size, setup.seed)

    current, results = network().state_dict(), []
    for round in range(1, settings.training.rounds + 1):
        total, losses = {key: torch.zeros_like(value, dtype=torch.float64) for key, value in current.items()}, 0.0
        for client in range(settings.partition.clients):
            model, indices = network(), setup.partition.client(client)
            model.load_state_dict(current)
            velocity = [torch.zeros_like(parameter) for parameter in model.parameters()]
            pixels, labels = (torch.from_numpy(a[indices]) for a in (dataset.train_images, dataset.train_labels))
            key = (setup.seed, "batches", round, client)
            for images, targets in Batches(pixels, labels, settings.training.batch_size, *statistics, key):
                loss = F.cross_entropy(model(images), targets)
                gradients = torch.autograd.grad(loss, list(model.parameters()))
                losses += loss.item() * len(targets) / tiny.TRAIN
                with torch.no_grad():
                    for parameter, speed, gradient in zip(model.parameters(), velocity, gradients, strict=True):
                        speed.mul_(momentum).add_(gradient)
                        parameter -= RATE * speed
            for name, value in model.state_dict().items():
                total[name] += value.double() * len(indices) / tiny.TRAIN
        current = {name: value.to(current[name].dtype) for name, value in total.items()}
        model = network().eval()
        model.load_state_dict(current)
        logits = model(normalize(torch.from_numpy(dataset.test_images.copy()), *statistics))
        labels = torch.from_numpy(dataset.test_labels.copy())
        accuracy = (logits.argmax(1) == labels).double().mean().item()
        results.append((current, accuracy, F.cross_entropy(logits, labels).item(), losses))
    return results


@pytest.mark.parametrize("model", ["user_models:perceptron", "user_models:convolutional"])
def test_full_precision_is_plain_fedavg(data, model):
    run = federation(data, "fp32", network=model, lr=RATE, momentum=0.5, rounds=3)
    expected = fedavg_by_hand(run.setup, momentum=0.5)
    for record, (state, accuracy, loss, train_loss) in zip(run.rounds(), expected, strict=True):
        found = run.layout.state_dict(record.state.model)
        for name, value in found.items():
            torch.testing.assert_close(value, state[name], rtol=1e-4, atol=1e-6)
        assert record.accuracy == pytest.approx(accuracy)
        assert record.loss == pytest.approx(loss, rel=1e-4)
        assert record.train_loss == pytest.approx(train_loss, rel=1e-4)


def exchanged(data, **changes):
    """The messages of one round of two clients, its record, and the run."""
    answers = {}

    def keep(task, outcome):
        answers[task.client] = (task.downlink, outcome)
        return outcome

    run = federation(data, change=keep, budgets=(2, 8), rounds=1, **changes)
    (record,) = run.rounds()
    sent = [decode(answers[c][0], run.layout, Kind.DOWNLINK, 1, c) for c in (0, 1)]
    received = [decode(answers[c][1], run.layout, Kind.UPLINK, 1, c) for c in (0, 1)]
    return run, record, sent, received, answers


@pytest.mark.parametrize("averaging", ["samples", "uniform"])
@pytest.mark.parametrize("aggregation", ["weights", "updates"])
@pytest.mark.parametrize("algorithm", ["fp32", "aqfl"])
def test_aggregation_of_two_clients_by_hand(data, algorithm, aggregation, averaging):
    run, record, sent, received, _ = exchanged(
        data, algorithm=algorithm, averaging=averaging, **{algorithm: {"aggregation": aggregation}}
    )
    assert [m.samples for m in received] == [24, 36]
    shares = (0.4, 0.6) if averaging == "samples" else (0.5, 0.5)
    for part in ("weights", "remainder"):
        before, ours = getattr(run.initial.model, part), [getattr(m.model, part) for m in sent]
        theirs = [getattr(m.model, part) for m in received]
        if aggregation == "weights":
            expected = shares[0] * theirs[0] + shares[1] * theirs[1]
        else:
            expected = before + shares[0] * (theirs[0] - ours[0]) + shares[1] * (theirs[1] - ours[1])
        torch.testing.assert_close(getattr(record.state.model, part), expected)
    assert record.train_loss == pytest.approx(0.4 * received[0].loss + 0.6 * received[1].loss)


def test_bytes_are_the_lengths_of_what_travelled(data):
    run, record, _, _, answers = exchanged(data, algorithm="aqfl")
    assert record.exchange.downlink_bytes == sum(len(downlink) for downlink, _ in answers.values())
    assert record.exchange.uplink_bytes == sum(len(answer) for _, answer in answers.values())
    floats = 4 * run.layout.remainder_size
    lean = sum(run.layout.sizes) * (2 + 8) / 8 + 2 * floats
    assert lean < record.exchange.downlink_bytes < lean + 200


# Who is given which bits


def test_clients_get_what_the_algorithm_allocates_and_send_no_more_back(data):
    run = federation(data, "fedmpq", fedmpq={"lambda": 3.0, "epsilon": 0.05, "min_bits": 1}, rounds=3, local_epochs=4)
    total, view, pruned = sum(run.layout.sizes), run.view(run.initial), 0
    for record in run.rounds():
        for client in record.clients:
            budget = run.experiment.model.budgets[client.client]
            assert client.given == run.algorithm.allocate(view, budget)
            assert sum(s * b for s, b in zip(run.layout.sizes, client.given, strict=True)) <= Fraction(budget) * total
            assert all(1 <= left <= given for left, given in zip(client.left, client.given, strict=True))
            pruned += client.given != client.left
        view = run.view(record.state)
    assert pruned


def test_consensus_of_a_round_reaches_the_next(data):
    run = federation(data, "fedmpq")
    consensus = Consensus((1, 8), (0, 0))
    state = ServerState(4, run.initial.model, consensus)
    message = decode(run.downlink(state, run.view(state), 5, 1), run.layout, Kind.DOWNLINK, 5, 1)
    assert message.bits == tuple(prune_and_grow(run.layout.sizes, 4, consensus, 1)) != (4, 4)
    assert message.model.remainder.tolist() == run.initial.model.remainder.tolist()


def test_the_first_model_is_that_of_the_seed(data):
    run = federation(data, "fp32", seed=3)
    model = build_model(run.experiment.model.network, tiny.CLASSES, 8, seed=3)
    assert torch.equal(run.initial.model.weights, run.layout.flatten(model).weights)
    assert (run.initial.round, run.initial.consensus) == (0, None)


# The same and not the same


@pytest.mark.parametrize("algorithm", ALGORITHM_NAMES)
def test_the_same_seed_gives_the_same_bytes_and_another_differs(data, algorithm):
    def last(seed):
        *_, record = federation(data, algorithm, seed=seed, activation_bits=4).rounds()
        return content(record.state)

    assert last(0) == last(0)
    assert last(0)[0] != last(1)[0]


def test_the_order_of_answers_does_not_matter(data):
    def last(order):
        setup = tiny.setup(data, "fedmpq", budgets=(2, 4, 6, 8))
        inner = Sequential(setup)

        class Shuffled:
            def run(self, tasks):
                tasks = list(tasks)
                return reversed(list(inner.run(tasks))) if order == "backwards" else inner.run(tasks)

        *_, record = Federation(setup, Shuffled()).rounds()
        return content(record.state), record.train_loss, record.clients

    assert last("forwards") == last("backwards")


def test_a_run_goes_on_from_a_state_as_if_it_had_not_stopped(data):
    records = list(federation(data, rounds=4).rounds())
    rest = list(federation(data, rounds=4).rounds(records[1].state))
    assert [content(record.state) for record in rest] == [content(record.state) for record in records[2:]]
    assert [record.round for record in rest] == [3, 4]
    assert [record.exchange.uplink_bytes for record in rest] == [r.exchange.uplink_bytes for r in records[2:]]
    assert not list(federation(data, rounds=4).rounds(records[3].state))


# Evaluation


def test_evaluation_at_bit_widths_is_of_the_model_that_a_device_runs(data):
    run = federation(data, "aqfl", activation_bits=None)
    *_, record = run.rounds()
    full = run.evaluate(record.state.model, 2)
    assert full == (record.accuracy, record.loss)
    coarse = run.evaluate(record.state.model, 2, (2, 2))
    message = decode(run.downlink(record.state, run.view(record.state), 3, 0), run.layout, Kind.DOWNLINK, 3, 0)
    assert message.bits == (2, 2)
    assert coarse == run.evaluate(message.model, 2)
    assert coarse[1] != full[1]


def test_device_accuracy_is_the_mean_over_the_clients(data):
    run = federation(data, "aqfl", budgets=(1, 8, 8), evaluate_quantized=1, activation_bits=4)
    first, record = run.rounds()
    assert math.isnan(first.device_accuracy)
    ones, eights = (run.evaluate(record.state.model, 2, (bits, bits))[0] for bits in (1, 8))
    assert record.device_accuracy == pytest.approx((ones + 2 * eights) / 3)
    *_, record = federation(data, "aqfl").rounds()
    assert record.device_accuracy is None


def test_devices_of_the_same_bits_are_evaluated_once(data, monkeypatch):
    run = federation(data, "fpq8", budgets=(2, 4, 8), evaluate_quantized=1)
    evaluate, evaluated = run.evaluate, []
    monkeypatch.setattr(run, "evaluate", lambda *model: evaluated.append(model[2:]) or evaluate(*model))
    *_, record = run.rounds()
    assert evaluated == [(), (), ((8, 8),)]  # the global model of either round, and all devices
    assert record.device_accuracy == evaluate(record.state.model, 2, (8, 8))[0]
