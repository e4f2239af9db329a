import numpy as np
import pytest
import tiny
import torch
from runs import content, federation, losing

from fedmpq.errors import UserError
from fedmpq.federated.layout import FlatModel
from fedmpq.federated.messages import Kind, Message, decode, encode

# Clients that fail


def test_a_client_that_fails_is_named_and_the_round_goes_on(data):
    run = federation(data, change=losing(1))
    for record in run.rounds():
        assert [client.client for client in record.clients] == [0, 2]
        assert record.exchange.reasons == {1: "out of memory"}
        counts = record.exchange.counts
        assert (counts["asked"], counts["answered"], counts["failed"]) == (3, 2, 1)


def test_a_client_that_diverges_is_named_and_left_out(data):
    """Client 0 alone holds the white image, on which this network's loss is not a number."""
    run = federation(data, "fp32", network="user_models:fragile")
    for record in run.rounds():
        assert [client.client for client in record.clients] == [1, 2]
        assert list(record.exchange.reasons) == [0]
        assert "diverged" in record.exchange.reasons[0]
        assert record.state.model.is_finite()


def test_those_that_answer_share_the_weight(data):
    one = next(federation(data, "fp32", change=losing(1), rounds=1).rounds()).state.model
    run = federation(data, "fp32", rounds=1)
    answers = {}

    def keep(task, outcome):
        answers[task.client] = decode(outcome, run.layout, Kind.UPLINK, 1, task.client)
        return outcome

    list(federation(data, "fp32", change=keep, rounds=1).rounds())
    counts = {client: answers[client].samples for client in (0, 2)}
    expected = sum(answers[c].model.weights * counts[c] for c in counts) / sum(counts.values())
    torch.testing.assert_close(one.weights, expected)


def test_no_answer_at_all_is_an_error_that_gives_a_reason(data):
    run = federation(data, "fp32", lr=1e30, local_epochs=3)
    with pytest.raises(UserError, match=r"^round 1: fewer than 1 .*client \d: training diverged"):
        next(run.rounds())


# Answers that are not what was asked for


def forged(run, bits, **changes):
    """A well-formed answer with the changes given."""

    def change(task, outcome):
        if task.client != 1:
            return outcome
        message = decode(outcome, run.layout, Kind.UPLINK, task.round, task.client)
        new_bits = message.bits if bits == "own" else bits
        scales = new_bits and torch.ones(len(new_bits))
        fields = {**vars(message), "bits": new_bits, "scales": scales, **changes}
        return encode(Message(**fields), run.layout)

    return change


def nan_model(run):
    return FlatModel(torch.full((sum(run.layout.sizes),), float("nan")), torch.zeros(run.layout.remainder_size))


@pytest.mark.parametrize(
    ("algorithm", "bits", "changes"),
    [
        ("aqfl", (8, 8), {}),
        ("aqfl", None, {}),
        ("fp32", (4, 4), {}),
        ("aqfl", "own", {"samples": 0}),
        ("aqfl", "own", {"samples": tiny.TRAIN + 1}),
        ("fp32", "own", {"samples": 2**32 - 1}),
        ("fp32", "own", {"client": 2}),
        ("fp32", "own", {"round": 9}),
        ("fp32", "own", {"kind": Kind.DOWNLINK}),
        ("fp32", "own", {"loss": float("nan")}),
        ("fp32", "own", {"loss": -1.0}),
        ("fp32", None, {"model": nan_model}),
    ],
)
def test_a_false_answer_is_rejected_named_and_never_aggregated(data, algorithm, bits, changes):
    honest = federation(data, algorithm, change=losing(1), rounds=1)
    changes = {key: value(honest) if callable(value) else value for key, value in changes.items()}
    run = federation(data, algorithm, change=forged(honest, bits, **changes), rounds=1)
    (record,), (expected,) = run.rounds(), honest.rounds()
    assert content(record.state) == content(expected.state)
    assert [client.client for client in record.clients] == [0, 2]
    assert record.exchange.counts["rejected"] == 1
    assert record.exchange.reasons[1].startswith("rejected: ")


@pytest.mark.parametrize("damage", [lambda a: b"", lambda a: a[:-1], lambda a: a[:60] + bytes([a[60] ^ 1]) + a[61:]])
def test_damaged_bytes_are_rejected(data, damage):
    def change(task, outcome):
        return damage(outcome) if task.client == 0 else outcome

    for record in federation(data, change=change).rounds():
        assert record.exchange.counts["rejected"] == 1
        assert [client.client for client in record.clients] == [1, 2]


# Rounds as they happen in the field


def test_what_happened_adds_up_and_bytes_are_counted(data):
    run = federation(
        data, "aqfl", budgets=(2, 4, 6, 8), rounds=12, dropout=0.3, max_repeats=20, min_answers=2, share=0.75
    )
    repeated = dropped = 0
    for record in run.rounds():
        counts = record.exchange.counts
        assert counts["answered"] == len(record.clients) >= 2
        assert counts["asked"] % 3 == 0
        repeated, dropped = repeated + (counts["asked"] > 3), dropped + counts["dropped"]
        if counts["asked"] == 3:
            assert counts["answered"] + counts["dropped"] == 3
    assert dropped > 3
    assert repeated


def test_every_client_asked_met_one_fate_also_in_rounds_that_were_repeated(data):
    run = federation(data, "aqfl", budgets=(2, 4, 6, 8), rounds=12, dropout=0.3, max_repeats=20, min_answers=4)
    asked = []
    for record in run.rounds():
        counts = record.exchange.counts
        asked.append(counts["asked"])
        assert (
            sum(counts[fate] for fate in ("answered", "dropped", "late", "rejected", "failed", "discarded"))
            == counts["asked"]
        )
    assert max(asked) > 4


def test_a_round_is_repeated_with_others(data):
    """Of four clients two are asked, client 1 always fails: the other two are asked next, and answer."""
    run = federation(data, "fp32", losing(1), budgets=(4, 4, 4, 4), share=0.5, min_answers=2, max_repeats=1, rounds=8)
    repeated = 0
    for record in run.rounds():
        first = run.participation.choose(record.round, 0, ())
        asked = set(range(4)) - set(first) if 1 in first else set(first)
        assert {client.client for client in record.clients} == asked
        repeated += 1 in first
    assert 0 < repeated < 8


def test_too_few_answers_after_all_repeats_are_an_error(data):
    run = federation(data, "fp32", dropout=0.99, max_repeats=2, min_answers=2)
    with pytest.raises(UserError, match=r"^round 1: fewer than 2 clients \(min_answers\) .* in 3 attempts"):
        list(run.rounds())


def test_a_late_answer_is_not_waited_for(data):
    settings = {"budgets": (2, 4, 6, 8), "speed_spread": 1.0, "images_per_second": 10.0, "bandwidth": 1e9}
    times = [federation(data, "fp32", **settings).participation.seconds(c, 15, 0) for c in range(4)]
    images = [len(tiny.partition(4).client(client)) for client in range(4)]
    times = [time * count / 15 for time, count in zip(times, images, strict=True)]
    deadline = float(np.median(times))
    run = federation(data, "fp32", deadline=deadline, **settings)
    for record in run.rounds():
        assert [c.client for c in record.clients] == [c for c in range(4) if times[c] <= deadline]
        assert record.exchange.counts["late"] == 2
        assert record.exchange.simulated_seconds == deadline


def test_simulated_time_is_that_of_the_slowest_answer(data):
    run = federation(data, "fp32", speed_spread=0.0, images_per_second=10.0, bandwidth=1e15, local_epochs=2)
    slowest = max(len(run.setup.partition.client(client)) for client in range(3))
    assert all(r.exchange.simulated_seconds == pytest.approx(2 * slowest / 10) for r in run.rounds())


def test_simulated_time_of_attempts_adds_up_and_of_missing_answers_lasts_until_the_deadline(data):
    settings = {"deadline": 1e6, "dropout": 0.5, "min_answers": 2, "max_repeats": 50, "rounds": 8}
    run, repeated = federation(data, "fp32", budgets=(4, 4, 4), **settings), 0
    for record in run.rounds():
        counts = record.exchange.counts
        full, failed = divmod(record.exchange.simulated_seconds, 1e6)
        attempts = counts["asked"] // 3
        assert full == attempts - (counts["dropped"] == 0 or len(record.clients) == 3)
        assert (failed > 0) == (len(record.clients) == 3)
        repeated += attempts > 1
    assert repeated


def test_only_some_clients_take_part(data):
    run = federation(data, "fp32", budgets=(4, 4, 4, 4), share=0.5, rounds=8)
    taking_part = [tuple(client.client for client in record.clients) for record in run.rounds()]
    assert {len(clients) for clients in taking_part} == {2}
    assert len(set(taking_part)) > 2
    assert taking_part == [tuple(run.participation.choose(round, 0, ())) for round in range(1, 9)]
