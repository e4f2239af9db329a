"""What is in examples/ runs, and the notebook shows what it leaves."""

import json
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_algorithm_from_outside_learns(tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLES / "own_algorithm.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    accuracies = [float(found) for found in re.findall(r"^round \d: accuracy (0\.\d+)$", done.stdout, re.MULTILINE)]
    assert len(accuracies) == len(done.stdout.splitlines()) == 5
    assert max(accuracies) > 0.25
    assert not any(tmp_path.iterdir())


@pytest.fixture(scope="module")
def code():
    """The code cells of the notebook."""
    cells = json.loads((EXAMPLES / "tour.ipynb").read_text())["cells"]
    assert len(cells) == 10
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_the_notebook_runs_from_top_to_bottom(code, monkeypatch):
    monkeypatch.chdir(EXAMPLES)
    matplotlib.use("Agg")
    before, names = {*EXAMPLES.iterdir()}, {}
    for number, cell in enumerate(code, 1):
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
        matplotlib.pyplot.close("all")
    assert names["accuracy"]() > 0.2
    assert names["records"][-1].accuracy > 0.4
    assert (names["said"].numpy() == names["labels"][:10]).sum() > 3
    assert {*EXAMPLES.iterdir()} == before


def test_the_notebook_holds_its_outputs(code):
    assert [cell["execution_count"] for cell in code] == [1, 2, 3, 4, 5]
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"display_data", "stream"}
    assert {output.get("name", "stdout") for output in outputs} == {"stdout"}
    assert sum("image/png" in output.get("data", ()) for output in outputs) == 4
