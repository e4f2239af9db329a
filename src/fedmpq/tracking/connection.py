"""The way to MLflow: where it is, its database, and what happens while it cannot be used."""

import logging
import os
import re
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from filelock import FileLock

from fedmpq.errors import UserError
from fedmpq.files import replacing

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

# A server that is down or silent costs seconds, not the minutes of MLflow's own defaults. What is set already stays.
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
}
BUSY_MS = 2000  # that a statement waits while another program holds the database, of MLflow's 20 s
PAUSE = 4  # times as long as a failed attempt took, none is made: work waits a fifth of its time at most
ARTIFACTS = "mlartifacts"
PLACES = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
"""The columns of MLflow's tables that say where artifacts are."""
REMEDY = "check address, permissions and space, or end the program that holds it"
LATER = "work goes on, what is missed is logged later, or by `make ui`"


def connect(root: Path) -> "Connection":
    """The connection that all runs of this process share.

    It leads to $MLFLOW_TRACKING_URI if set, else to mlflow.db in `root`, or in the repository of which `root` is DVC's
    temporary copy.
    """
    folder = Path(os.environ.get("DVC_ROOT") or root).resolve()
    return _connection(os.environ.get("MLFLOW_TRACKING_URI") or _sqlite_uri(folder / "mlflow.db"), folder)


class Connection:
    """A client of MLflow that is made when first needed; while MLflow cannot be used, it is tried now and then."""

    def __init__(self, uri: str, folder: Path):
        self.uri, self.folder = uri, folder
        self._database = _sqlite_file(uri)
        self._pause_ends = 0.0  # after a failure; before one there is none

    def artifacts(self, experiment: str) -> str | None:
        """URI of the folder for an experiment's artifacts; None: the server, which keeps them, decides."""
        if not self.uri.startswith(("sqlite", "postgresql", "mysql", "mssql")):
            return None
        return ((self._database.parent if self._database else self.folder) / ARTIFACTS / experiment).as_uri()

    @cached_property
    def client(self) -> "MlflowClient":
        """The client. Raises whatever MLflow and its database raise."""
        _import_mlflow()
        from mlflow.tracking import MlflowClient

        if self._database:
            _prepare(self._database)
        return MlflowClient(self.uri)

    @contextmanager
    def required(self) -> Iterator["MlflowClient"]:
        """The client, for what has no sense without it. Raises UserError where MLflow cannot be used."""
        try:
            yield self.client
        except UserError:
            raise
        except Exception as error:
            raise UserError(self.explain(error)) from error

    def attempt(self, action: Callable[["MlflowClient"], object], urgent: bool = False) -> None:
        """Do `action(client)`, unless an earlier one failed a moment ago and this one is not `urgent`.

        Never raises, for MLflow must not end a training: the first of several failures in a row is told in a line on
        stderr. `action` has to stand being called again after it failed half-way.
        """
        began = time.monotonic()
        if began < self._pause_ends and not urgent:
            return
        try:
            with self.required() as client:
                action(client)
            self._pause_ends = 0.0
        except UserError as error:
            if not self._pause_ends:
                print(f"warning: {error}; {LATER}", file=sys.stderr, flush=True)
            now = time.monotonic()
            self._pause_ends = now + PAUSE * (now - began)

    def explain(self, error: Exception) -> str:
        """One line: why MLflow cannot be used and what to do, without a password that the address may hold."""
        said = f"MLflow at {self._database or self.uri} cannot be used ({_reason(error)}); {REMEDY}"
        return re.sub(r"//[^@/\s]*@", "//", said)


_connection = cache(Connection)


def _reason(error: BaseException) -> str:
    """What database, network or file system said, if that is at the bottom; else `error`; its first line."""
    bottom = error
    while cause := bottom.__cause__ or bottom.__context__:
        bottom = cause
    told = bottom if isinstance(bottom, OSError | sqlite3.Error) else error
    return str(told).strip().partition("\n")[0][:200] or type(told).__name__


def _sqlite_uri(database: Path) -> str:
    """The address of a database file, in which signs that mean something there are quoted.

    It names the driver: of a path that follows on `sqlite:///`, MLflow would make the folder, with the signs quoted.
    """
    return f"sqlite+pysqlite:///{quote(str(database))}"


def _sqlite_file(uri: str) -> Path | None:
    """The database file that `uri` names, None where it names something else."""
    kind, _, path = uri.partition(":///")
    return Path(unquote(path.partition("?")[0])).resolve() if kind in ("sqlite", "sqlite+pysqlite") else None


@cache
def _import_mlflow() -> None:
    """Import MLflow (seconds) without its calls home, its patience and its log."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    import mlflow.tracking  # noqa: F401
    from sqlalchemy import Engine, event

    for name in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)

    @event.listens_for(Engine, "before_cursor_execute", retval=True)
    def _wait_less(_: Any, cursor: Any, statement: str, parameters: Any, *others: Any) -> tuple[str, Any]:
        sets_patience = statement.startswith("PRAGMA busy_timeout")
        return f"PRAGMA busy_timeout = {BUSY_MS}" if sets_patience else statement, parameters


def _prepare(database: Path) -> None:
    """Make a database, or bring it up to date, once, however many processes start together."""
    from mlflow.store.db import utils

    with FileLock(f"{database}.lock", timeout=60):
        if not database.exists() or not database.stat().st_size:
            _create(database)
        _follow(database)  # It finds a database that is damaged or locked, which MLflow would try for minutes.
        engine = utils.create_sqlalchemy_engine(_sqlite_uri(database))
        if utils._get_schema_version(engine) != utils._get_latest_schema_revision():
            utils._upgrade_db(engine)
        engine.dispose()


def _create(database: Path) -> None:
    """Make MLflow's database, as a whole."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for left in ("-wal", "-shm"):  # Of a database that was killed and moved away, SQLite would replay its log.
        database.with_name(f"{database.name}{left}").unlink(missing_ok=True)
    with replacing(database) as temporary:
        SqlAlchemyStore(_sqlite_uri(temporary), (database.parent / ARTIFACTS).as_uri()).engine.dispose()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")  # three times as fast, and readers never wait


def _follow(database: Path) -> None:
    """Let the artifacts of a database that was moved or copied be those beside it."""
    here = f"{(database.parent / ARTIFACTS).as_uri()}/"
    with closing(sqlite3.connect(database, timeout=BUSY_MS / 1000)) as connection, connection:
        connection.create_function("beside", 1, lambda uri: here + uri.rpartition(f"/{ARTIFACTS}/")[2])
        for table, column in PLACES.items():
            ours = f"{column} LIKE 'file:%/{ARTIFACTS}/%' AND instr({column}, ?) = 0"
            connection.execute(f"UPDATE {table} SET {column} = beside({column}) WHERE {ours}", [here])
