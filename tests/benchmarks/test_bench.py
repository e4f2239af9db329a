import pytest

from benchmarks import bench, flower
from benchmarks.project import QUICK
from fedmpq.files import write_json
from fedmpq.reporting import benchmarks


def test_what_is_computed_here_is_measured_and_reported(tmp_path):
    rows = list(bench.measure(["steps", "packing", "allocation"], QUICK))
    names = ["step", "step-activations", "packing", "allocation", "allocation-noise"]
    assert [row["name"] for row in rows] == names
    assert all(min(row["measured"]["lowest"], row["reference"]["lowest"]) > 0 for row in rows)
    report = bench.circumstances() | {"benchmarks": rows}
    write_json(tmp_path / "benchmarks.json", report)
    page = "\n".join(benchmarks.section(tmp_path / "benchmarks.json"))
    assert all(row["measure"] in page for row in rows)
    assert report["hardware"]["processor"] in page


def test_without_flower_its_rows_say_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(flower, "ENVIRONMENT", tmp_path / "nowhere")
    rows = list(bench.measure(["flower", "flower-small"], QUICK))
    assert [row["name"] for row in rows] == ["flower", "flower-default", "flower-memory", "flower-small"]
    assert all(row["holds"] is None and "make bench" in row["note"] for row in rows)


def test_the_command_prints_what_it_measures_and_keeps_no_part_of_it(capsys):
    file = bench.command.ROOT / "reports" / "benchmarks.json"
    before = file.read_bytes()
    bench.main(["--quick", "--only", "packing"])
    assert "packing" in capsys.readouterr().out.split("verdict")[1]
    assert file.read_bytes() == before


def test_all_of_it_ends_in_the_reports(monkeypatch, tmp_path):
    (tmp_path / "reports").mkdir()
    row = {**flower.SMALL.row([6, 8], [2, 2], "a note"), "growth": {"clients": [10, 100], "s": [1, 2], "MiB": [8, 9]}}
    monkeypatch.setattr(bench.command, "ROOT", tmp_path)
    monkeypatch.setattr(bench, "measure", lambda names, scale: [row, flower.DEFAULT.missing("no Flower")])
    monkeypatch.setattr(bench, "renew", lambda parameters: None)
    monkeypatch.setattr(bench.command, "parameters", lambda: None)
    bench.main([])
    page = "\n".join(benchmarks.section(tmp_path / "reports" / "benchmarks.json"))
    assert all(part in page for part in ("3.50 x", "holds", "not run", "](../growth.png)"))
    assert (tmp_path / "reports" / "growth.png").stat().st_size > 1000


def test_a_report_without_benchmarks_has_no_such_section(tmp_path):
    assert benchmarks.section(tmp_path / "benchmarks.json") == []
    (tmp_path / "benchmarks.json").write_text("{}")
    with pytest.raises(benchmarks.UserError, match="make bench"):
        benchmarks.section(tmp_path / "benchmarks.json")


@pytest.mark.parametrize(("value", "text"), [(1234.5, "1,234 s"), (0.01234, "12.3 ms"), (0, "0 s"), (1.5, "1.50 s")])
def test_quantities_have_three_digits(value, text):
    assert benchmarks.quantity(value, "s") == text
