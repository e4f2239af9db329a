import multiprocessing
import os
import signal
import time

import pytest

from fedmpq import tracking
from fedmpq.tracking.connection import connect


def test_a_run_says_what_it_is(root, cell, monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "train@digits-fedmpq-0.5")
    monkeypatch.setenv("DVC_EXP_NAME", "pale-moon")
    with cell.start(root, seed=3) as run:
        cell.log(run)
    (found,) = cell.runs(root)
    assert found.info.run_name == "fedmpq alpha=0.5 seed=3"
    assert found.info.status == "FINISHED"
    assert found.info.artifact_uri.startswith((root / "mlartifacts" / "digits").as_uri())
    assert found.data.params == {"seed": "3"} | {name: str(value) for name, value in cell.parameters().items()}
    expected = {
        "algorithm": "fedmpq",
        "alpha": "0.5",
        "seed": "3",
        "partition": "3" * 64,
        "fingerprint": "fedmpq-0.5-3",
        "dvc.stage": "train@digits-fedmpq-0.5",
        "dvc.experiment": "pale-moon",
    }
    assert expected.items() <= found.data.tags.items()
    (logged,) = found.inputs.dataset_inputs
    assert (logged.dataset.name, logged.dataset.digest) == ("digits", "3" * 36)


def test_rounds_are_logged_at_their_step(root, cell):
    with cell.start(root) as run:
        cell.log(run)
    history = cell.history(root, run.run_id)
    assert history["bytes/uplink"] == [(1, 1000), (2, 2000), (3, 3000)]
    assert history["bits/budget-4"] == [(1, 4), (2, 4), (3, 4)]


def test_files_and_summary_are_kept(root, cell, tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"weights")
    run = cell.start(root)
    cell.log(run)
    run.log_file(tmp_path / "weights.pt", "model")
    run.finish({"accuracy/final": 0.25})
    assert (root / "mlartifacts/digits" / run.run_id / "artifacts/model/weights.pt").read_bytes() == b"weights"
    assert cell.history(root, run.run_id)["accuracy/final"] == [(0, 0.25)]


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)


def interrupt():
    raise KeyboardInterrupt


def fail():
    raise ValueError("numbers")


@pytest.mark.parametrize(
    ("ending", "error", "status"),
    [(fail, ValueError, "FAILED"), (interrupt, KeyboardInterrupt, "KILLED"), (terminate, SystemExit, "KILLED")],
)
def test_how_a_run_ended(root, cell, ending, error, status):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(error), cell.start(root):
        ending()
    assert cell.runs(root)[0].info.status == status
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_forked_worker_dies_of_sigterm_and_leaves_the_run_alone(root, cell):
    with cell.start(root):
        fork = multiprocessing.get_context("fork")
        started = fork.Event()
        worker = fork.Process(target=lambda: started.set() or time.sleep(60))
        worker.start()
        assert started.wait(10)
        worker.terminate()
        worker.join(10)
        assert worker.exitcode == -signal.SIGTERM
    assert cell.runs(root)[0].info.status == "FINISHED"


def test_a_resumed_run_goes_on_and_logs_no_round_twice(root, cell):
    first = cell.start(root)
    cell.log(first, rounds=2)
    first.finish(status="KILLED")
    with cell.start(root, run_id=first.run_id) as second:
        assert cell.runs(root)[0].info.status == "RUNNING"
        cell.log(second, rounds=4)
    (found,) = cell.runs(root)
    assert found.info.status == "FINISHED"
    assert second.run_id == first.run_id
    assert [step for step, _ in cell.history(root, first.run_id)["test/loss"]] == [1, 2, 3, 4]


def test_a_run_that_is_gone_is_begun_anew(root, cell):
    with cell.start(root, run_id="0" * 32) as unknown:
        pass
    connect(root).client.delete_run(unknown.run_id)
    with cell.start(root, run_id=unknown.run_id) as anew:
        cell.log(anew)
    (found,) = cell.runs(root)
    assert found.info.run_id == anew.run_id != unknown.run_id


def test_a_deleted_experiment_is_restored(root, cell):
    with cell.start(root):
        pass
    client = connect(root).client
    client.delete_experiment(client.get_experiment_by_name("digits").experiment_id)
    with cell.start(root, seed=1):
        pass
    assert list(tracking.experiments(root)) == ["digits"]
