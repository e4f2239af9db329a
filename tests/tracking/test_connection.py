import multiprocessing
import os
import shutil
import signal
import socket
import sqlite3
import time
from contextlib import closing

import pytest
from sqlalchemy import Engine, event

from fedmpq import tracking
from fedmpq.errors import UserError
from fedmpq.tracking import connection
from fedmpq.tracking.connection import Connection, connect


def test_the_address_is_absolute_and_the_environment_wins(bare, monkeypatch):
    monkeypatch.chdir(bare)
    assert connect(bare.relative_to(bare)).uri == f"sqlite+pysqlite:///{bare}/mlflow.db"
    monkeypatch.setenv("DVC_ROOT", str(bare / "main"))
    assert connect(bare / "copy").uri == f"sqlite+pysqlite:///{bare}/main/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:1")
    assert connect(bare).uri == "http://localhost:1"


def use(folder, name, kill=False):
    """Connect and write, as a process that starts; and be killed."""
    connect(folder).client.create_experiment(name)
    if kill:
        os.kill(os.getpid(), signal.SIGKILL)


def test_processes_that_start_together_make_one_whole_database(bare, migrated, capfd):
    folder = bare / "100%25 of #1? é"
    folder.mkdir()
    shutil.copy(migrated, folder / "mlflow.db")
    fork = multiprocessing.get_context("fork")
    killed = fork.Process(target=use, args=(folder, "old", True))
    killed.start()
    killed.join()
    assert (folder / "mlflow.db-wal").stat().st_size > 0  # would be replayed into a database of that name
    (folder / "mlflow.db").unlink()
    processes = [fork.Process(target=use, args=(folder, name)) for name in ("a", "b")]
    for process in processes:
        process.start()
        time.sleep(1)  # the first has begun to make it, and takes seconds
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert capfd.readouterr().err == ""
    with sqlite3.connect(folder / "mlflow.db") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        names = database.execute("SELECT name FROM experiments ORDER BY name").fetchall()
    assert names == [("Default",), ("a",), ("b",)]
    assert {path.name for path in folder.iterdir()} <= {"mlflow.db", "mlflow.db.lock", "mlflow.db-wal", "mlflow.db-shm"}
    assert list(bare.iterdir()) == [folder]


def test_a_database_of_an_older_mlflow_is_migrated(root, cell):
    with sqlite3.connect(root / "mlflow.db") as database:
        newest = database.execute("SELECT version_num FROM alembic_version").fetchone()[0]
        database.execute("CREATE TABLE kept (number INTEGER)")
    from mlflow.store.db import utils

    engine = utils.create_sqlalchemy_engine_with_retry(connect(root).uri)
    from alembic import command

    config = utils._get_alembic_config(connect(root).uri)
    with engine.begin() as opened:
        config.attributes["connection"] = opened
        command.downgrade(config, "-1")
    engine.dispose()
    with cell.start(root):
        pass
    assert len(cell.runs(root)) == 1
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
    tracking.seal(unusable, folder)
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
    (cut_off,) = cell.runs(root)
    assert len(tracking.replay(cell.results(root, seeds=[0]).parents[2], root)) == 1
    (completed,) = cell.runs(root)
    assert completed.info.run_id == cut_off.info.run_id
    assert sorted(step for step, _ in cell.history(root, completed)["test/accuracy"]) == [1, 2, 3]


@pytest.fixture(params=["wal", "delete"])
def lock(request, root):
    """Another program that can hold the database for itself."""
    with closing(sqlite3.connect(root / "mlflow.db", isolation_level=None)) as database:
        database.execute(f"PRAGMA journal_mode = {request.param}")
        yield database


def steps(root, cell):
    (run,) = cell.runs(root)
    return sorted(step for step, _ in cell.history(root, run)["test/accuracy"])


def test_what_was_missed_while_the_database_was_locked_is_logged_in_a_later_round(root, lock, cell, capfd, monkeypatch):
    monkeypatch.setattr(connection, "PAUSE", 0)
    monkeypatch.setattr(connection, "BUSY_MS", 100)
    with cell.start(root, rounds=5) as run:
        cell.log(run, rounds=1)
        lock.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        cell.log(run, first=2, rounds=3)
        assert time.monotonic() - began < 15  # MLflow waits for 20 s each time
        lock.execute("ROLLBACK")
        cell.log(run, first=4, rounds=4)
        assert steps(root, cell) == [1, 2, 3, 4]
        cell.log(run, first=5, rounds=5)
    assert steps(root, cell) == [1, 2, 3, 4, 5]
    err = capfd.readouterr().err
    assert err.startswith(f"warning: MLflow at {root}/mlflow.db cannot be used (database is locked); ")
    assert err.count("\n") == 1


def test_a_run_that_could_not_even_be_begun_is_whole_in_the_end(root, lock, cell, capfd, monkeypatch):
    monkeypatch.setattr(connection, "BUSY_MS", 100)
    lock.execute("BEGIN EXCLUSIVE")
    with cell.start(root) as run:
        cell.log(run)
        run.log_file(root / "mlflow.db", "model")
        lock.execute("ROLLBACK")
    assert steps(root, cell) == [1, 2, 3]
    assert set(cell.artifacts(root, *cell.runs(root))) == {"mlflow.db"}
    assert "(database is locked)" in capfd.readouterr().err
    assert cell.runs(root)[0].info.status == "FINISHED"


def test_what_was_missed_to_the_end_comes_with_the_results(root, lock, cell, monkeypatch):
    monkeypatch.setattr(connection, "BUSY_MS", 100)
    with cell.start(root) as run:
        cell.log(run, rounds=1)
        lock.execute("BEGIN EXCLUSIVE")
        cell.log(run, first=2)
    lock.execute("ROLLBACK")
    tracking.seal(root, cell.results(root, seeds=[0]))
    assert steps(root, cell) == [1, 2, 3]
    assert cell.runs(root)[0].info.status == "FINISHED"
    assert tracking.replay(root / "results", root) == []


def test_what_needs_mlflow_does_not_wait_for_a_lock(root, lock, cell, monkeypatch):
    monkeypatch.setattr(connection, "BUSY_MS", 100)
    cell.results(root)
    lock.execute("BEGIN EXCLUSIVE")
    with pytest.raises(UserError, match=r"mlflow\.db cannot be used \(database is locked\); check address"):
        tracking.replay(root / "results", root)


def test_a_round_whose_answer_was_lost_is_kept_once(root, cell, monkeypatch):
    monkeypatch.setattr(connection, "PAUSE", 0)
    client = connect(root).client
    log_batch = client.log_batch

    def lose(*args, **kwargs):
        log_batch(*args, **kwargs)
        monkeypatch.setattr(client, "log_batch", log_batch)
        raise ConnectionResetError("reset by peer")

    with cell.start(root) as run:
        monkeypatch.setattr(client, "log_batch", lose)
        cell.log(run)
    assert steps(root, cell) == [1, 2, 3]


def test_after_a_slow_failure_there_is_a_pause(tmp_path, capsys):
    broken = Connection("http://127.0.0.1:9", tmp_path)
    tried = []

    def fail(client):
        tried.append(client)
        time.sleep(0.1)
        raise TimeoutError("timed out")

    for expected in (1, 1):
        broken.attempt(fail)
        assert len(tried) == expected
    broken.attempt(fail, urgent=True)
    assert len(tried) == 2
    time.sleep(0.1 * (connection.PAUSE + 2))
    broken.attempt(tried.append)
    assert len(tried) == 3
    assert capsys.readouterr().err.count("\n") == 1
    broken.attempt(fail)
    assert capsys.readouterr().err.count("\n") == 1  # another outage is told of again


@pytest.mark.parametrize(
    ("pragma", "reason"),
    [("query_only = ON", "attempt to write a readonly database"), ("max_page_count = 1", "database or disk is full")],
)
def test_the_reason_is_what_the_database_says(root, cell, capfd, pragma, reason):
    def spoil(database, _):
        database.execute(f"PRAGMA {pragma}")

    event.listen(Engine, "connect", spoil)
    try:
        with cell.start(root, rounds=200) as run:
            cell.log(run, rounds=200)
        with pytest.raises(UserError, match=reason):
            tracking.replay(cell.results(root, rounds=200).parents[2], root)
    finally:
        event.remove(Engine, "connect", spoil)
    err = capfd.readouterr().err
    assert f"cannot be used ({reason}); check address, permissions and space" in err
    assert err.count("\n") == 1


def test_a_password_in_the_address_is_not_shown(tmp_path):
    shown = Connection("postgresql://me:secret@host/db", tmp_path).explain(ValueError("at postgresql://me:secret@host"))
    assert "secret" not in shown
    assert "postgresql://host/db" in shown
