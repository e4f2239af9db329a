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
    assert fp32["final_accuracy"] == pytest.approx({"mean": 0.6, "std": 0.02**0.5, "error": 0.1})
    assert fp32["points_to_fp32"] == {"mean": None, "error": None}
    assert aqfl["points_to_fp32"] == {"mean": -15.0, "error": 5.0}
    assert aqfl["average_bits"]["given"] == 5.0
    assert aqfl["nominal_bytes"] == weights * 5 / 8
    assert aqfl["size_to_fp32"] == pytest.approx((weights * 5 / 8 + 4000) / (weights * 4 + 4000))


def test_table_names_missing_cells(summary):
    rows = table(summary)
    assert rows.iloc[0, :6].tolist() == ["0.1", "FP32", "2", "60.0 ± 14.1", "10.0", "60.0 ± 14.1"]
    assert ["0.5", "FedMPQ", "-", "missing"] in rows.iloc[:, :4].to_numpy().tolist()
    assert len(rows) == 8
    assert "on devices (%)" not in rows


def test_difference_to_fpq8_is_paired_by_seed(project):
    project.cell("fpq8", 0.1, [0.5, 0.7, 0.6])
    project.cell("aqfl", 0.1, [0.4, 0.62, 0.53])
    summary = summarize(load(project.root, project.parameters, "digits"))
    fpq8, aqfl = summary["cells"]
    assert fpq8["points_to_fpq8"] == {"mean": None, "error": None}
    assert aqfl["points_to_fpq8"] == {"mean": -8.33, "error": 0.88}  # of -10, -8 and -7
    assert table(summary)["vs FPQ8"].tolist()[:2] == ["-", "-8.3 ± 0.9"]


def test_chance_is_that_of_the_classes(project):
    project.cell("fp32", 0.1, [0.5])
    assert summarize(load(project.root, project.parameters, "digits"))["chance"] is None
    project.meta(["a", "b"])
    assert summarize(load(project.root, project.parameters, "digits"))["chance"] == 1 / 2


def test_one_seed_has_no_deviation(project):
    project.cell("aqfl", 0.1, [0.4])
    rows = table(summarize(load(project.root, project.parameters, "digits")))
    assert rows["accuracy (%)"][0] == "40.0"
    assert not {"vs FP32", "vs FPQ8", "std. error"} & set(rows)


def test_device_accuracy_has_a_column_where_it_was_measured(project):
    folder = project.cell("aqfl", 0.1, [0.4])
    rounds = pd.read_csv(folder / "rounds.csv")
    rounds.assign(device_accuracy=rounds["round"] / 100).to_csv(folder / "rounds.csv", index=False)
    rows = table(summarize(load(project.root, project.parameters, "digits")))
    assert rows["on devices (%)"][0] == "8.0"  # rounds 6 to 10


def test_terminal_table_is_narrow(summary):
    assert max(map(len, as_plain_text(summary).splitlines())) <= 80
