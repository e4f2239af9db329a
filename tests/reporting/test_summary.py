import pandas as pd
import pytest

from fedmpq.reporting.results import load
from fedmpq.reporting.summary import as_plain_text, summarize, table


@pytest.fixture
def summary(project):
    project.cell("fp32", 0.1, [0.5, 0.7])
    project.cell("aqfl", 0.1, [0.4, 0.5])
    return summarize(load(project.root, project.parameters, "digits"))


def test_numbers_against_hand_computation(summary, project):
    fp32, aqfl = summary["cells"]
    weights = sum(project.sizes.values())
    assert fp32["final_accuracy"] == {"mean": pytest.approx(0.6), "std": pytest.approx(0.02**0.5)}
    assert fp32["points_to_fp32"] is None
    assert aqfl["points_to_fp32"] == -15.0
    assert aqfl["average_bits"]["given"] == 5.0
    assert aqfl["nominal_bytes"] == weights * 5 / 8
    assert aqfl["size_to_fp32"] == pytest.approx((weights * 5 / 8 + 4000) / (weights * 4 + 4000))


def test_table_names_missing_cells(summary):
    rows = table(summary)
    assert rows.iloc[0, :4].tolist() == ["0.1", "FP32", "60.0 ± 14.1", "60.0 ± 14.1"]
    assert ["0.5", "FedMPQ", "missing"] in rows.iloc[:, :3].to_numpy().tolist()
    assert len(rows) == 8
    assert "on devices (%)" not in rows


def test_one_seed_has_no_deviation(project):
    project.cell("aqfl", 0.1, [0.4])
    rows = table(summarize(load(project.root, project.parameters, "digits")))
    assert rows["accuracy (%)"][0] == "40.0"
    assert "vs FP32" not in rows


def test_device_accuracy_has_a_column_where_it_was_measured(project):
    folder = project.cell("aqfl", 0.1, [0.4])
    rounds = pd.read_csv(folder / "rounds.csv")
    rounds.assign(device_accuracy=rounds["round"] / 100).to_csv(folder / "rounds.csv", index=False)
    rows = table(summarize(load(project.root, project.parameters, "digits")))
    assert rows["on devices (%)"][0] == "8.0"  # rounds 6 to 10


def test_terminal_table_is_narrow(summary):
    assert max(map(len, as_plain_text(summary).splitlines())) <= 80
