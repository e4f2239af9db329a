import pytest

from fedmpq.errors import UserError
from fedmpq.reporting import exports, report


def test_each_export_is_a_row_that_leads_to_it(tmp_path, write_export):
    folder = tmp_path / "exports/digits"
    assert exports.section(folder) == []
    write_export(folder, 2.5, **{"model.onnx": 1234})
    write_export(folder, 4.0, **{"model.onnx": 2345, "model.fmpq": 1500})
    title, table = exports.section(folder)
    assert title == "## Exported models"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    place = "../../exports/digits/fedmpq/alpha-0.5/seed-0"
    assert rows[2][:6] == ["FedMPQ", "0.5", "0", f"[2.5]({place}/budget-2.5)", "1,234", "-"]
    assert rows[3] == ["FedMPQ", "0.5", "0", f"[4]({place}/budget-4)", "2,345", "1,500", "4,000", "80.0%", "90.0%"]
    page = report.as_html("# title\n\n" + "\n\n".join([title, table]), tmp_path)
    assert f'<a href="{place}/budget-4">4</a>' in page


@pytest.mark.parametrize("content", ["", "[]", "{}"])
def test_a_damaged_one_is_named(tmp_path, write_export, content):
    (write_export(tmp_path, 4.0) / "model.json").write_text(content)
    with pytest.raises(UserError, match=r"model\.json is damaged \(.*make it anew with: make export"):
        exports.section(tmp_path)
