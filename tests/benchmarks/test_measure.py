import sys

import pytest

from benchmarks import measure
from benchmarks.measure import AT_LEAST, AT_MOST, Benchmark
from fedmpq.reporting.benchmarks import as_plain_text

FASTER = Benchmark("name", "ours", "theirs", AT_MOST, 1.5, "x")


@pytest.mark.parametrize(("unit", "value"), [("x", 1.25), ("s", 1), ("%", 125)])
def test_what_two_medians_make(unit, value):
    found = Benchmark("name", "ours", "theirs", AT_MOST, 200, unit).row([5, 1, 9], [4, 4, 100], "")
    assert found["value"] == value
    assert found["measured"] == {"median": 5, "lowest": 1, "highest": 9, "samples": 3, "unit": "s"}


@pytest.mark.parametrize(
    ("bound", "limit", "verdict"),
    [(AT_MOST, 2, True), (AT_MOST, 1.9, False), (AT_LEAST, 2, True), (AT_LEAST, 2.1, False)],
)
def test_a_target_that_is_reached_holds(bound, limit, verdict):
    assert Benchmark("name", "ours", "theirs", bound, limit, "x").row([4], [2], "")["holds"] is verdict


def test_what_could_not_be_measured_neither_holds_nor_fails():
    row = FASTER.missing("no network")
    assert row.keys() == FASTER.row([1], [1], "").keys()
    assert (row["value"], row["holds"], row["note"]) == (None, None, "no network")
    assert "not run" in as_plain_text({"benchmarks": [row]})


def test_what_is_compared_is_called_in_turn():
    calls = []
    actions = (lambda: calls.append("a") or 1.0, lambda: calls.append("b") or 2.0)
    assert measure.alternate(*actions, times=3) == [(1.0,) * 3, (2.0,) * 3]
    assert "".join(calls) == "ababab"


def test_rounds_and_memory_of_a_command(tmp_path):
    code = (
        "import time; print('begins', flush=True); kept = bytearray(80 * 2**20)\n"
        "for n in range(3): print('round', n, flush=True); time.sleep(0.5)"
    )
    seen = measure.watch(measure.start([sys.executable, "-c", code], tmp_path), weigh=True)
    assert len(seen.times) == 3
    assert min(measure.lengths(seen)) > 0.3
    assert 80 < seen.peak < 200


def test_a_command_that_fails_says_why(tmp_path):
    with pytest.raises(measure.UserError, match="no such thing"):
        measure.watch(measure.start([sys.executable, "-c", "raise SystemExit('no such thing')"], tmp_path))


def test_a_command_without_a_round_is_none_to_measure(tmp_path):
    with pytest.raises(measure.UserError, match="nothing to do"):
        measure.watch(measure.start([sys.executable, "-c", "print('nothing to do')"], tmp_path))


def test_a_command_that_hangs_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "LIMIT", 0.2)
    with pytest.raises(measure.UserError, match="exit code -9"):
        measure.watch(measure.start([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path))
