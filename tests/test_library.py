"""What a notebook uses: the examples of the docstrings run, bad arguments are named, results are the pipeline's."""

import doctest
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import content

import fedmpq
from fedmpq.engine.cell import Cell
from fedmpq.engine.executors import Sequential
from fedmpq.engine.hardware import resolve_precision
from fedmpq.errors import UserError
from fedmpq.federated.server import Federation
from fedmpq.quantization.codes import from_planes

PARAMS = Path(__file__).parents[1] / "params.yaml"
SMALL = ["training.rounds=1", "training.local_epochs=1", "data.train_samples=200"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The working folder: empty but for params.yaml."""
    shutil.copy(PARAMS, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def digits():
    return fedmpq.Experiment.from_yaml(PARAMS, "digits", SMALL)


@pytest.fixture(scope="module")
def record(digits):
    (record,) = fedmpq.run(digits, "fedmpq", alpha=0.5)
    return record


@pytest.mark.parametrize("name", fedmpq._HOMES)
def test_its_example_runs(name, place, digits, record):
    assert name in dir(fedmpq)
    if name == "load":
        fedmpq.save("model.fmpq", digits, "fedmpq", record, budget=4)
    known = {"fedmpq": fedmpq, "np": np, "torch": torch}
    found = doctest.DocTestFinder().find(getattr(fedmpq, name), name, extraglobs=known)
    (test,) = [test for test in found if test.examples]
    outcome = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    assert (outcome.failed, outcome.attempted) == (0, len(test.examples))


def test_results_are_those_of_the_pipeline_and_the_working_folder_stays_empty(digits, tmp_path, monkeypatch):
    device, place = torch.device("cpu"), tmp_path / "elsewhere"
    precision = resolve_precision("auto", device)
    setup = Cell(tmp_path / "pipeline", "digits", digits, "fedmpq", 0.1, "0.1", device, precision).setup(1)
    expected = next(Federation(setup, Sequential(setup)).rounds())
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setattr("fedmpq.library.resolve_device", lambda name: device)
    (found,) = fedmpq.run(digits, "fedmpq", alpha=0.1, seed=1)
    assert content(found.state) == content(expected.state)
    assert (found.accuracy, found.clients) == (expected.accuracy, expected.clients)
    assert not any(place.iterdir())


def test_torch_keeps_its_threads(digits, record, tmp_path):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        for _ in fedmpq.run(digits, "fp32", alpha=0.5):
            assert torch.get_num_threads() == 1
        fedmpq.save(tmp_path / "model.fmpq", digits, "fedmpq", record, budget=4)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_saved_model_has_the_bits_of_its_budget(digits, record, tmp_path):
    for budget in (2, 8):
        fedmpq.save(tmp_path / "model.fmpq", digits, "fedmpq", record, budget)
        model = fedmpq.load(tmp_path / "model.fmpq")
        sizes, bits = model.layout.sizes, model.message.bits
        assert budget - 1 < sum(size * b for size, b in zip(sizes, bits, strict=True)) / sum(sizes) <= budget


@pytest.mark.parametrize("bits", range(1, 9))
def test_codes_travel_as_bytes_and_planes(bits):
    weights = torch.randn(3, 5, requires_grad=True, generator=torch.Generator().manual_seed(0))
    codes, grid = fedmpq.quantize(weights, bits, "normal")
    assert torch.equal(fedmpq.unpack(fedmpq.pack(codes, bits), 15, bits), codes.flatten())
    assert torch.equal(from_planes(fedmpq.planes(codes, bits)), codes)
    assert (grid.decode(codes) - weights).abs().max() < weights.abs().max()


def test_layers_that_lost_fewer_bits_gain_first():
    assert fedmpq.allocate([100, 100], 4, bits=[2, 2], pruned=[1, 0]) == [2, 6]
    assert fedmpq.allocate([100, 100], 4, bits=[2, 2], pruned=[0, 1]) == [6, 2]


# What is refused


ONES = torch.ones(2)
CALLS = {
    "labels": lambda: fedmpq.partition([0.5, 1], 2, 0.5),
    "clients": lambda: fedmpq.partition([0, 1], 0, 0.5),
    "alpha": lambda: fedmpq.partition([0, 1], 2, float("nan")),
    "bits": lambda: fedmpq.quantize(ONES, 9),
    "quantizer": lambda: fedmpq.quantize(ONES, 2, "fancy"),
    "weights": lambda: fedmpq.quantize(ONES / 0, 2),
    "codes": lambda: fedmpq.pack(torch.tensor([4]), 2),
    "packed": lambda: fedmpq.unpack(b"abc", 8, 2),
    "budget": lambda: fedmpq.allocate([10, 20], 8.5),
    "sizes": lambda: fedmpq.allocate([10, 20], 4, bits=[1]),
}


@pytest.mark.parametrize("key", CALLS)
def test_a_bad_argument_is_named_in_one_line(key):
    with pytest.raises(UserError, match=rf"^{key}: [^\n]+$"):
        CALLS[key]()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nothing", 0.5), "unknown algorithm 'nothing'; allowed: fp32, "),
        (("fp32", 0), "alpha: 0 is not allowed; allowed: a number above 0"),
        (("fp32", 0.5, 0, 0), "workers: 0 is not allowed; allowed: 1 or more"),
        (("fp32", 1e-9), "alpha 1e-09: in 1001 draws none gave each of the 10 clients"),
    ],
)
def test_a_run_is_refused_before_it_is_begun(digits, arguments, said):
    with pytest.raises(UserError, match=said):
        fedmpq.run(digits, *arguments)


@pytest.mark.parametrize(
    ("section", "overrides", "said"),
    [
        ("digit", [], r"my\.yaml: section: 'digit' is not allowed; allowed: digits, "),
        ("digit", ["training.rounds=1"], r"my\.yaml: unknown key 'digit\.training\.rounds'"),
        ("digits", ["training.round=1"], r"my\.yaml: unknown key 'digits\.training\.round'"),
        ("digits", ["training.rounds=0"], r"my\.yaml: digits\.training\.rounds: 0 is not allowed"),
        ("digits", ["training.rounds"], "override 'training.rounds': allowed: KEY=VALUE"),
        ("digits", ["execution.workers=2"], "overrides: 'execution.workers' is not allowed; allowed: keys of"),
    ],
)
def test_a_fault_in_a_file_is_told_with_its_name(tmp_path, section, overrides, said):
    shutil.copy(PARAMS, tmp_path / "my.yaml")
    with pytest.raises(UserError, match=rf"^{said}"):
        fedmpq.Experiment.from_yaml(tmp_path / "my.yaml", section, overrides)
