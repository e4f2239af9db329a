from collections import Counter
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from fedmpq.engine.results import bits_rows, round_row, summarize
from fedmpq.federated.layout import FlatModel
from fedmpq.federated.server import ClientRecord, Exchange, RoundRecord, ServerState

MODEL = FlatModel(torch.zeros(2), torch.zeros(1))


def record(round, clients, accuracy=0.5, device_accuracy=None, seconds=1.23456, **exchange):
    counts = Counter(asked=3, answered=len(clients), **exchange.pop("counts", {}))
    return RoundRecord(
        state=ServerState(round, MODEL),
        accuracy=accuracy,
        loss=1.5,
        train_loss=1.25,
        exchange=Exchange(counts, uplink_bytes=100, downlink_bytes=300, simulated_seconds=7.0, **exchange),
        clients=clients,
        seconds=seconds,
        device_accuracy=device_accuracy,
    )


LAYOUT = SimpleNamespace(layers=["conv1", "fc"], sizes=[10, 30])
BUDGETS = [2.0, 4.0, 8.0]
CLIENTS = [ClientRecord(0, (2, 2), (1, 2)), ClientRecord(2, (8, 8), (8, 7))]


def tables(records, seed=0):
    """Rows of rounds.csv and bits.csv."""
    rounds, bits = [], []
    for entry in records:
        rounds.append(round_row(seed, entry, rounds[-1] if rounds else None))
        bits += bits_rows(seed, entry, LAYOUT, BUDGETS)
    return rounds, bits


def history(seed=0, accuracies=(0.5, 0.7), clients=CLIENTS):
    return tables([record(round, clients, accuracy) for round, accuracy in enumerate(accuracies, 1)], seed)


def summary(*histories, remainder=0):
    rounds, bits = ([row for table in tables for row in table] for tables in zip(*histories, strict=True))
    return summarize(pd.DataFrame(rounds), pd.DataFrame(bits), remainder)


def test_rows_of_rounds():
    (first, second), _ = history()
    assert first == {
        "seed": 0,
        "round": 1,
        "test_accuracy": 0.5,
        "test_loss": 1.5,
        "train_loss": 1.25,
        "uplink_bytes": 100,
        "downlink_bytes": 300,
        "asked": 3,
        "answered": 2,
        "dropped": 0,
        "late": 0,
        "rejected": 0,
        "failed": 0,
        "discarded": 0,
        "simulated_seconds": 7.0,
        "seconds": 1.235,
    }
    assert list(second) == list(first)
    assert (second["round"], second["uplink_bytes"], second["downlink_bytes"]) == (2, 200, 600)


def test_fates_of_clients_and_device_accuracy():
    fates = {"dropped": 1, "late": 2, "rejected": 3, "failed": 4}
    row = round_row(0, record(1, [], counts=fates, device_accuracy=0.25), None)
    assert [row[key] for key in ("dropped", "late", "rejected", "failed")] == [1, 2, 3, 4]
    assert row["device_accuracy"] == 0.25


def test_rows_of_bits():
    _, rows = history(seed=3)
    assert len(rows) == 2 * 2 * 2
    assert rows[2] == {
        "seed": 3,
        "round": 1,
        "client": 2,
        "budget": 8.0,
        "layer": "conv1",
        "parameters": 10,
        "bits_given": 8,
        "bits_left": 8,
    }
    assert [(row["bits_given"], row["bits_left"]) for row in rows[:4]] == [(2, 1), (2, 2), (8, 8), (8, 7)]
    assert [row["round"] for row in rows] == [1] * 4 + [2] * 4


def test_full_precision_counts_as_32_bits():
    entry = history(clients=[ClientRecord(1, None, None)], accuracies=(0.5,))
    assert [(row["bits_given"], row["bits_left"]) for row in entry[1]] == [(32, 32), (32, 32)]
    assert summary(entry)["average_bits"] == {"given": 32, "left": 32, "all": 32}
    assert summary(entry)["bytes_per_client_and_round"]["nominal"] == 40 * 32 / 8


def test_final_accuracy_is_the_mean_of_the_last_five_rounds_and_best_the_highest():
    found = summary(history(accuracies=(0.9, 0.1, 0.2, 0.3, 0.4, 0.5)))
    assert found["final_accuracy"] == {"mean": pytest.approx(0.3), "std": None, "seed-0": pytest.approx(0.3)}
    assert found["best_accuracy"] == {"mean": 0.9, "std": None, "seed-0": 0.9}
    assert summary(history(accuracies=(0.2, 0.4)))["final_accuracy"]["mean"] == pytest.approx(0.3)


def test_deviation_over_seeds():
    found = summary(*(history(seed, (accuracy,)) for seed, accuracy in ((0, 0.2), (1, 0.4), (5, 0.6))))
    assert found["final_accuracy"] == {
        "mean": pytest.approx(0.4),
        "std": pytest.approx(0.2),
        "seed-0": 0.2,
        "seed-1": 0.4,
        "seed-5": 0.6,
    }


def test_average_bits_are_weighted_by_parameters():
    found = summary(history(), history(1))
    given = (2 * 40 + 8 * 40) / 80
    left = (1 * 10 + 2 * 30 + 8 * 10 + 7 * 30) / 80
    assert found["average_bits"] == {"given": pytest.approx(given), "left": pytest.approx(left), "all": given}


def test_what_is_not_quantized_counts_as_float32():
    bits = summary(history(), remainder=10)["average_bits"]
    assert bits["all"] == pytest.approx((40 * bits["given"] + 10 * 32) / 50)


def test_bytes_per_client_and_round():
    found = summary(history(), history(1))
    assert found["bytes_per_client_and_round"] == {
        "uplink": pytest.approx(100 / 2),
        "downlink": pytest.approx(300 / 3),
        "nominal": pytest.approx((1 * 10 + 2 * 30 + 8 * 10 + 7 * 30) / 8 / 2),
    }


def test_late_and_rejected_answers_were_sent_too():
    clients, fates = [ClientRecord(0, (2, 2), (2, 2))], {"late": 1, "rejected": 2, "dropped": 5}
    entry = tables([record(1, clients, counts=fates)])
    assert summary(entry)["bytes_per_client_and_round"]["uplink"] == pytest.approx(100 / 4)


def test_seconds_are_those_of_a_median_round():
    entry = tables([record(round, CLIENTS, seconds=seconds) for round, seconds in enumerate((9.0, 1.0, 2.0), 1)])
    assert summary(entry)["seconds_per_round"] == 2.0
