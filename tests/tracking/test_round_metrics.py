import math

import pytest

from fedmpq.tracking import round_metrics, summary_metrics


def test_columns_are_named_by_group_and_keys_left_out():
    row = {
        "seed": 0,
        "round": 4,
        "test_accuracy": 0.5,
        "uplink_bytes": 10,
        "seconds": 2,
        "late": 1,
        "new": 3,
        "note": "x",
    }
    assert round_metrics(row) == {
        "test/accuracy": 0.5,
        "bytes/uplink": 10,
        "time/seconds": 2,
        "clients/late": 1,
        "other/new": 3,
    }


@pytest.mark.parametrize("gap", [math.nan, math.inf, -math.inf, None])
def test_what_is_no_number_is_left_out(gap):
    assert round_metrics({"train_loss": gap, "test_loss": 1.0}) == {"test/loss": 1.0}


def test_bits_are_averaged_over_the_weights_of_each_budget():
    def row(budget, parameters, given, left):
        return {"budget": budget, "parameters": parameters, "bits_given": given, "bits_left": left}

    bits = [row(2, 300, 2, 1), row(2, 100, 6, 5), row(2.5, 7, 2, 2)]
    assert round_metrics({}, bits) == {
        "bits/budget-2": 3,
        "bits-left/budget-2": 2,
        "bits/budget-2.5": 2,
        "bits-left/budget-2.5": 2,
    }


def test_summary_takes_the_accuracy_of_its_seed():
    metrics = {
        "final_accuracy": {"mean": 0.2, "std": 0.1, "seed-0": 0.1, "seed-7": 0.3},
        "best_accuracy": {"mean": 0.3, "std": None, "seed-0": 0.2, "seed-7": 0.4},
        "average_bits": {"given": 3, "left": 2, "all": 4},
        "bytes_per_client_and_round": {"uplink": 5, "downlink": 6, "nominal": 4},
        "seconds_per_round": 9,
    }
    summary = summary_metrics(metrics, 7)
    assert (summary["accuracy/final"], summary["accuracy/best"], summary["bits/left"]) == (0.3, 0.4, 2)
