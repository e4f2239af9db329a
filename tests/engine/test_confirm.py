import json
import shutil

import pytest
import tiny
import torch

from fedmpq.config import Execution
from fedmpq.engine import cell as module
from fedmpq.engine.cell import Cell
from fedmpq.engine.confirm import confirm
from fedmpq.engine.results import read_run
from fedmpq.engine.seed_run import SeedRun, write_results
from fedmpq.errors import UserError

HERE = Execution(executor="sequential")


def cell(root, **changes):
    settings = tiny.experiment(**{"rounds": 3, "activation_bits": 4, "seeds": [0, 1], **changes})
    return Cell(root, "tiny", settings, "fedmpq", 0.5, "0.5", torch.device("cpu"), "float32")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(data, root / "data/prepared/tiny")
    runs = [SeedRun(cell(root), seed) for seed in (0, 1)]
    for run in runs:
        list(run.rounds(HERE))
    write_results(runs, HERE, root / "results")
    return root


@pytest.fixture
def results(trained, tmp_path, monkeypatch):
    """A copy of the results, which are now of other code."""
    shutil.copytree(trained / "results", tmp_path / "results")
    monkeypatch.setattr(module, "code_digest", lambda *_: "other")
    return tmp_path / "results"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_comes_out_the_same_becomes_that_of_the_present_code(trained, results):
    before, run = contents(results), read_run(results)
    assert run["fingerprint"] != cell(trained).fingerprint
    confirm(cell(trained), HERE, results, 2)
    after = read_run(results)
    assert after == run | {"fingerprint": cell(trained).fingerprint, "confirmed": {"commit": None, "rounds": 2}}
    assert {name for name in before if contents(results)[name] != before[name]} == {"run.json"}


def test_seeds_that_are_still_to_be_trained_do_not_matter(trained, results):
    more = cell(trained, seeds=[0, 1, 2])
    confirm(more, HERE, results, 1)
    assert read_run(results)["fingerprint"] == more.fingerprint_of([0, 1])


@pytest.mark.parametrize(
    ("name", "line", "place"), [("rounds.csv", 6, 2), ("rounds.csv", 1, 4), ("bits.csv", 2, 7), ("bits.csv", 20, 6)]
)
def test_another_number_is_named_and_nothing_changes(trained, results, name, line, place):
    lines = (results / name).read_text().splitlines()
    numbers = lines[line].split(",")
    numbers[place] = "7"
    (results / name).write_text("\n".join([*lines[:line], ",".join(numbers), *lines[line + 1 :]]) + "\n")
    before = contents(results)
    with pytest.raises(UserError, match=rf"this code finds another {name} for seed \d; --overwrite trains anew$"):
        confirm(cell(trained), HERE, results, 3)
    assert contents(results) == before


def test_a_parameter_that_has_come_since_is_added(trained, results):
    run = json.loads((results / "run.json").read_text())
    del run["parameters"]["training.averaging"]
    (results / "run.json").write_text(json.dumps(run))
    confirm(cell(trained), HERE, results, 1)
    assert read_run(results)["parameters"] == cell(trained).flat_parameters


def test_other_parameters_or_partitions_cannot_be_confirmed(trained, results):
    with pytest.raises(UserError, match="other parameters or partitions"):
        confirm(cell(trained, lr=0.06), HERE, results, 1)
    run = json.loads((results / "run.json").read_text())
    run["partition"]["seed-0"] = "0"
    (results / "run.json").write_text(json.dumps(run))
    with pytest.raises(UserError, match="other parameters or partitions"):
        confirm(cell(trained), HERE, results, 1)
