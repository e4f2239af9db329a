import json

import pytest

from benchmarks import flower, measure, watch
from benchmarks.measure import AT_LEAST, AT_MOST, Benchmark, Samples, efficiency, excess, ratio, share
from fedmpq.reporting import benchmarks
from pipeline import bench

FASTER = Benchmark("name", "ours", "theirs", ratio, AT_MOST, 1.5, "x")


@pytest.mark.parametrize(("compare", "value"), [(ratio, 1.25), (excess, 1), (share, 125), (efficiency, 80)])
def test_what_two_medians_make(compare, value):
    found = Benchmark("name", "ours", "theirs", compare, AT_MOST, 200, "x").result(
        Samples([5, 1, 9], "s"), Samples([4, 4, 100], "s")
    )
    assert found["value"] == value
    assert found["measured"] == {"median": 5, "lowest": 1, "highest": 9, "samples": 3, "unit": "s"}


@pytest.mark.parametrize(("bound", "limit", "verdict"), [(AT_MOST, 2, True), (AT_MOST, 1.9, False)])
def test_a_target_that_is_reached_holds(bound, limit, verdict):
    assert measure.holds(2.0, bound, limit) is verdict
    assert measure.holds(-2.0, AT_LEAST if bound == AT_MOST else AT_MOST, -limit) is verdict


def test_what_could_not_be_measured_neither_holds_nor_fails():
    row = FASTER.missing("no network")
    assert (row["value"], row["holds"], row["note"]) == (None, None, "no network")
    assert "not run" in benchmarks.as_plain_text({"benchmarks": [row]})


def test_what_is_compared_is_called_in_turn():
    calls = []
    actions = (lambda: calls.append("a") or 1.0, lambda: calls.append("b") or 2.0)
    assert measure.alternate(*actions, times=3) == [[1.0] * 3, [2.0] * 3]
    assert "".join(calls) == "ababab"


def test_without_flower_its_rows_say_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(flower, "ENVIRONMENT", tmp_path / "nowhere")
    rows = list(flower.measure(None))
    assert [row["name"] for row in rows] == ["flower", "flower-default", "flower-memory"]
    assert all(row["holds"] is None and "make bench" in row["note"] for row in rows)


def test_memory_and_lines_of_a_command(tmp_path):
    code = "import time; kept = bytearray(80 * 2**20); print('kept', flush=True); time.sleep(0.3); print('done')"
    seen = watch.watch(["python3", "-c", code], tmp_path, {"PATH": "/usr/bin:/bin:/usr/local/bin"})
    assert [line for _, line in seen.lines] == ["kept", "done"]
    assert seen.started < seen.lines[0][0] < seen.lines[1][0] - 0.2
    assert 80 * 2**20 < seen.peak < 200 * 2**20
    with pytest.raises(watch.CommandFailed, match="no such thing"):
        watch.watch(["python3", "-c", "raise SystemExit('no such thing')"], tmp_path, {"PATH": "/usr/bin:/bin"})


def test_every_measurement_works_and_is_written(tmp_path, capsys):
    out = tmp_path / "benchmarks.json"
    names = [name for name in bench.NAMES if not name.startswith("flower")]
    bench.main(["--quick", "--only", *names, "--out", str(out)])
    report = json.loads(out.read_text())
    assert [row["name"] for row in report["benchmarks"]] == names
    for row in report["benchmarks"]:
        assert row["holds"] is measure.holds(row["value"], row["bound"], row["target"])
        assert min(row["measured"]["lowest"], row["reference"]["lowest"]) > 0
    said, page = capsys.readouterr().out, "\n".join(benchmarks.section(out))
    for row in report["benchmarks"]:
        assert row["name"] in said
        assert row["measure"] in page
    assert report["hardware"]["processor"] in page


def test_a_report_without_benchmarks_has_no_such_section(tmp_path):
    assert benchmarks.section(tmp_path / "benchmarks.json") == []
    (tmp_path / "benchmarks.json").write_text("{}")
    with pytest.raises(benchmarks.UserError, match="make bench"):
        benchmarks.section(tmp_path / "benchmarks.json")


@pytest.mark.parametrize(("value", "text"), [(1234.5, "1,234 s"), (0.01234, "12.3 ms"), (0, "0 s"), (1.5, "1.50 s")])
def test_quantities_have_three_digits(value, text):
    assert benchmarks.quantity(value, "s") == text
