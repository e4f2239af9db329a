import os
import socket
import sqlite3
import subprocess
import sys
import time

import pytest

from fedmpq import tracking
from fedmpq.errors import UserError
from fedmpq.tracking.connection import Connection, connect


def test_the_address_is_absolute_and_the_environment_wins(bare, monkeypatch):
    monkeypatch.chdir(bare)
    assert tracking.tracking_uri(bare.relative_to(bare)) == f"sqlite:///{bare}/mlflow.db"
    monkeypatch.setenv("DVC_ROOT", str(bare / "main"))
    assert tracking.tracking_uri(bare / "copy") == f"sqlite:///{bare}/main/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:1")
    assert tracking.tracking_uri(bare) == "http://localhost:1"


def test_processes_that_start_together_make_one_whole_database(bare):
    folder = bare / "with space"
    folder.mkdir()
    code = (
        "import sys, pathlib; from fedmpq.tracking.connection import connect; connect(pathlib.Path(sys.argv[1])).client"
    )
    command = [sys.executable, "-c", code, str(folder)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ) for _ in range(2)]
    assert [(process.communicate()[1], process.returncode) for process in processes] == [(b"", 0)] * 2
    with sqlite3.connect(folder / "mlflow.db") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("SELECT name FROM experiments").fetchall() == [("Default",)]
    assert not list(folder.glob("*.tmp"))


def test_a_new_database_begins_empty_after_one_that_was_killed_and_moved_away(bare):
    killed = """
import os, pathlib, sys
from fedmpq.tracking.connection import connect
client = connect(pathlib.Path(sys.argv[1])).client
for number in range(20):
    client.create_experiment(f"old {number}")
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", killed, str(bare)], env=os.environ)
    assert (bare / "mlflow.db-wal").stat().st_size > 0
    (bare / "mlflow.db").unlink()
    assert [found.name for found in connect(bare).client.search_experiments()] == ["Default"]
    with sqlite3.connect(bare / "mlflow.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_database_of_an_older_mlflow_is_migrated(root, cell):
    with sqlite3.connect(root / "mlflow.db") as database:
        newest = database.execute("SELECT version_num FROM alembic_version").fetchone()[0]
        database.execute("CREATE TABLE kept (number INTEGER)")
    from mlflow.store.db import utils

    engine = utils.create_sqlalchemy_engine_with_retry(tracking.tracking_uri(root))
    from alembic import command

    config = utils._get_alembic_config(tracking.tracking_uri(root))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "-1")
    engine.dispose()
    with cell.start(root) as run:
        assert run.run_id
    with sqlite3.connect(root / "mlflow.db") as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchone()[0] == newest
        assert database.execute("SELECT count(*) FROM kept").fetchone() == (0,)


@pytest.fixture
def silent_server():
    """The address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(params=["no server", "silent server", "damaged", "folder in the way", "no such folder"])
def unusable(request, bare, monkeypatch, silent_server):
    """A project whose MLflow cannot be used."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    if request.param == "no server":
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    elif request.param == "silent server":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", silent_server)
    elif request.param == "damaged":
        (bare / "mlflow.db").write_bytes(b"no database" * 1000)
    elif request.param == "folder in the way":
        (bare / "mlflow.db").mkdir()
    else:
        (bare / "file").write_text("")
        monkeypatch.setenv("DVC_ROOT", str(bare / "file" / "below"))
    return bare


def test_a_training_survives_an_unusable_mlflow(unusable, cell, capfd):
    folder = cell.results(unusable)
    began = time.monotonic()
    for seed in (0, 1):
        with cell.start(unusable, seed=seed) as run:
            cell.log(run, seed)
            run.log_file(folder / "bits.csv")
        assert run.run_id is None
    tracking.seal(unusable, folder, {0: None, 1: None})
    assert time.monotonic() - began < 20
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("warning: MLflow at ")
    assert err.count("\n") == 1


def test_what_needs_mlflow_says_in_one_line_that_it_cannot_be_used(unusable, cell):
    cell.results(unusable)
    with pytest.raises(UserError, match=r"^MLflow at .* cannot be used \(.*\); check .*") as error:
        tracking.replay(unusable / "results", unusable)
    assert "\n" not in str(error.value)


def test_a_training_survives_when_mlflow_goes_away(root, cell, capfd):
    with cell.start(root) as run:
        cell.log(run, rounds=1)
        with sqlite3.connect(root / "mlflow.db") as database:
            database.execute("ALTER TABLE metrics RENAME TO gone")
        cell.log(run, first=2)
    assert capfd.readouterr().err.count("\n") == 1
    with sqlite3.connect(root / "mlflow.db") as database:
        database.execute("ALTER TABLE gone RENAME TO metrics")
    connect.__globals__["_connection"].cache_clear()  # as another process
    assert len(tracking.replay(cell.results(root, seeds=[0]).parents[2], root)) == 1
    (completed,) = cell.runs(root)
    assert completed.info.run_id == run.run_id
    assert sorted(step for step, _ in cell.history(root, run.run_id)["test/accuracy"]) == [1, 2, 3]


def test_a_password_in_the_address_is_not_shown(tmp_path):
    shown = Connection("postgresql://me:secret@host/db", tmp_path).explain(ValueError("at postgresql://me:secret@host"))
    assert "secret" not in shown
    assert "postgresql://host/db" in shown
