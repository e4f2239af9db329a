import multiprocessing
import os
import signal
from functools import partial

import pytest
import tiny
import torch

from fedmpq.config import Execution
from fedmpq.engine.executors import Process, Sequential, build_executor
from fedmpq.engine.pool import Pool
from fedmpq.engine.results import bits_rows, round_row
from fedmpq.errors import UserError
from fedmpq.federated.server import Federation


def processes(setup, workers):
    return Pool(partial(Process, setup), workers)


def outcome(setup, executor, killing=False):
    """Everything that a run leaves, but for its times; with `killing` the workers die between the rounds."""
    with executor:
        run = Federation(setup, executor)
        rows, bits, states, reasons = [], [], [], []
        for record in run.rounds():
            rows.append(round_row(setup.seed, record, rows[-1] if rows else None))
            bits += bits_rows(setup.seed, record, run.layout, setup.experiment.model.budgets)
            reasons.append(record.exchange.reasons)
            model = record.state.model
            states.append((model.weights.numpy().tobytes(), model.remainder.numpy().tobytes(), record.state.consensus))
            if killing:
                for worker in multiprocessing.active_children():
                    os.kill(worker.pid, signal.SIGKILL)
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
    return states, rows, bits, reasons


@pytest.fixture(scope="module")
def settings(data):
    changes = {"network": "resnet8", "activation_bits": 4, "flip": True, "evaluate_quantized": 1, "lr": 0.01}
    return tiny.setup(data, "fedmpq", budgets=(2, 4, 6, 8), fedmpq={"lambda": 1.0, "epsilon": 0.05}, **changes)


@pytest.fixture(scope="module")
def expected(settings):
    return outcome(settings, Sequential(settings))


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_give_the_same_bytes_as_one_after_another(settings, expected, workers):
    assert outcome(settings, processes(settings, workers)) == expected


def test_the_threads_that_the_server_begins_with_change_nothing(settings, expected):
    torch.set_num_threads(4)
    assert outcome(settings, processes(settings, 1)) == expected
    assert torch.get_num_threads() == 1


def test_workers_that_die_between_rounds_are_replaced(settings, expected):
    assert outcome(settings, processes(settings, 2), killing=True) == expected


def test_workers_end_with_the_block(settings):
    with processes(settings, 2):
        assert len(multiprocessing.active_children()) == 2
    assert not multiprocessing.active_children()


def test_a_client_that_diverges_fails_in_a_worker_as_it_does_here(data):
    setup = tiny.setup(data, "fp32", network="user_models:fragile")
    found = outcome(setup, processes(setup, 1))
    assert found == outcome(setup, Sequential(setup))
    assert [list(reasons) for reasons in found[3]] == [[0], [0]]


MORTAL = """
import os, signal
from pathlib import Path
from user_models import Fragile, is_white, perceptron

class Mortal(Fragile):
    def forward(self, images):
        left = Path({folder!r}) / "left"
        deadly = is_white(images).any() if self.training else {in_evaluation} and len(images) > 2
        if deadly and int(left.read_text()):
            left.write_text(str(int(left.read_text()) - 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner(images)

def factory(classes, image_size):
    return Mortal(classes, image_size)
"""


@pytest.fixture
def mortal(data, tmp_path, monkeypatch):
    """Makes the set-up of a network that kills its process so many times, on client 0 or in evaluation."""

    def setup(deaths, in_evaluation=False):
        name = f"mortal_{deaths}_{in_evaluation}"
        (tmp_path / f"{name}.py").write_text(MORTAL.format(folder=str(tmp_path), in_evaluation=in_evaluation))
        (tmp_path / "left").write_text(str(deaths))
        return tiny.setup(data, "fp32", network=f"{name}:factory")

    monkeypatch.syspath_prepend(tmp_path)
    return setup


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_worker_killed_in_training_is_replaced_and_nothing_is_lost(mortal, tmp_path, deaths):
    immortal = mortal(0)
    expected = outcome(immortal, Sequential(immortal))
    setup = mortal(deaths)
    assert outcome(setup, processes(setup, 2)) == expected
    assert (tmp_path / "left").read_text() == "0"


def test_a_client_whose_workers_die_three_times_fails_and_the_round_goes_on(mortal):
    setup = mortal(3)
    _, rows, bits, reasons = outcome(setup, processes(setup, 2))
    assert [(row["asked"], row["answered"], row["failed"]) for row in rows] == [(3, 2, 1), (3, 3, 0)]
    assert {row["client"] for row in bits if row["round"] == 1} == {1, 2}
    assert list(reasons[0]) == [0]
    assert "worker died 3 times" in reasons[0][0]
    assert str(-signal.SIGKILL) in reasons[0][0]


def test_an_evaluation_whose_workers_die_is_an_error_that_says_so(mortal):
    setup = mortal(100, in_evaluation=True)
    with pytest.raises(UserError, match=r"^round 1: the global model could not be evaluated: its worker died 3 times"):
        outcome(setup, processes(setup, 1))
    assert not multiprocessing.active_children()


STILLBORN = """
import multiprocessing, os, signal, sys
from pathlib import Path
from user_models import perceptron as factory

if multiprocessing.parent_process():
    with Path({folder!r}, "starts").open("a") as file:
        file.write("x")
    {end}
"""


@pytest.mark.parametrize(
    ("end", "cause"),
    [
        ("os._exit(7)", "a worker ended before it was ready: exit code 7"),
        ("sys.exit(3)", "a worker ended before it was ready: exit code 3"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "a worker ended before it was ready: exit code -9, killed, perhaps"),
        ("import no_such_module", "model.network: cannot import 'stillborn_3:factory': .*No module named 'no_such_"),
    ],
)
def test_a_worker_that_cannot_begin_ends_the_run_at_once(data, tmp_path, monkeypatch, end, cause, request):
    name = f"stillborn_{request.node.callspec.indices['end']}"
    (tmp_path / f"{name}.py").write_text(STILLBORN.format(folder=str(tmp_path), end=end))
    monkeypatch.syspath_prepend(tmp_path)
    setup = tiny.setup(data, "fp32", network=f"{name}:factory")
    with pytest.raises(UserError, match=f"^{cause}"):
        outcome(setup, processes(setup, 2))
    assert len((tmp_path / "starts").read_text()) <= 2
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("build", [Sequential, lambda setup: processes(setup, 1)])
def test_a_fault_of_the_program_is_an_error_with_its_trace(data, build):
    setup = tiny.setup(data, "fp32", network="user_models:broken")
    with pytest.raises(RuntimeError, match="a fault of the program"):
        outcome(setup, build(setup))


def test_the_executor_that_is_named_is_built(settings):
    assert isinstance(build_executor(Execution(executor="sequential"), settings), Sequential)
    with build_executor(Execution(executor="processes", workers=1), settings) as executor:
        assert isinstance(executor.idle[0], Process)
        assert len(multiprocessing.active_children()) == 1
