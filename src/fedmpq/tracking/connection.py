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
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, unquote, urlparse

from filelock import FileLock

from fedmpq.errors import UserError
from fedmpq.files import replacing

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

T = TypeVar("T")

# A server that is down or silent costs seconds, not the minutes of MLflow's own defaults.
PATIENCE = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
}
BUSY_MS = 2000  # that a statement waits while another program holds the database, of MLflow's 20 s
PAUSE = 4  # times as long as a failed attempt took, none is made: work waits a fifth of its time at most
LOCK_SECONDS = 60
ARTIFACTS = "mlartifacts"


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
        self.broken = False
        """Whether the last attempt failed."""
        self._database = _sqlite_file(uri)
        self._is_default = self._database == folder / "mlflow.db"
        self._pause_ends = 0.0

    def artifacts(self, experiment: str) -> str | None:
        """URI of the folder for an experiment's artifacts; None: the server, which keeps them, decides."""
        if not self.uri.startswith(("sqlite", "postgresql", "mysql", "mssql")):
            return None
        return ((self._database or self.folder / "_").parent / ARTIFACTS / experiment).as_uri()

    @cached_property
    def client(self) -> "MlflowClient":
        """The client. Raises whatever MLflow and its database raise."""
        _import_mlflow()
        from mlflow.tracking import MlflowClient

        return _open(self.uri, self._database) if self._database else MlflowClient(self.uri)

    @contextmanager
    def required(self) -> Iterator["MlflowClient"]:
        """The client, for what has no sense without it. Raises UserError where MLflow cannot be used."""
        try:
            yield self.client
        except UserError:
            raise
        except Exception as error:
            raise UserError(self.explain(error)) from error

    def attempt(self, action: Callable[["MlflowClient"], T], urgent: bool = False) -> T | None:
        """The result of `action(client)`, or None: it failed, or an earlier one did so a moment ago.

        Never raises, for MLflow must not end a training. The first of several failures in a row is told on stderr,
        in one line.

        Args:
            action: has to stand being called again after it failed half-way.
            urgent: try even if an earlier one failed a moment ago.
        """
        began = time.monotonic()
        if began < self._pause_ends and not urgent:
            return None
        try:
            result = action(self.client)
        except Exception as error:
            now = time.monotonic()
            self._pause_ends = now + PAUSE * (now - began)
            if not self.broken:
                later = "work goes on, what is missed is logged later, or by `make ui`"
                print(f"warning: {self.explain(error)}; {later}", file=sys.stderr, flush=True)
            self.broken = True
            return None
        self.broken = False
        return result

    def explain(self, error: Exception) -> str:
        """One line: why MLflow cannot be used and what to do, without a password that the address may hold."""
        reason = _reason(error)
        if "locked" in reason:
            remedy = "wait for the program that holds it, or end it"
        elif self._is_default:
            remedy = "check permissions and space, or move mlflow.db away: a new one is filled from results/"
        else:
            remedy = "check that address, or unset MLFLOW_TRACKING_URI"
        where = self._database or self.uri
        return re.sub(r"//[^@/\s]*@", "//", f"MLflow at {where} cannot be used ({reason}); {remedy}")


_connection = cache(Connection)


def _reason(error: BaseException) -> str:
    """The first line of what database, network or file system said, if that is at the bottom; else of `error`."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    told = [getattr(e, "orig", e) for e in chain if isinstance(e, OSError | sqlite3.Error) or hasattr(e, "orig")]
    lines = str((told or chain[:1])[-1]).strip().splitlines() or [type(error).__name__]
    return lines[0] if len(lines[0]) <= 200 else f"{lines[0][:200]}..."


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
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    import mlflow.tracking  # noqa: F401
    from sqlalchemy import Engine, event

    for name in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)

    @event.listens_for(Engine, "before_cursor_execute", retval=True)
    def _wait_less(_: Any, cursor: Any, statement: str, parameters: Any, *others: Any) -> tuple[str, Any]:
        sets_patience = statement.startswith("PRAGMA busy_timeout")
        return f"PRAGMA busy_timeout = {BUSY_MS}" if sets_patience else statement, parameters


def _open(uri: str, database: Path) -> "MlflowClient":
    """A client of a database, which is made or migrated first, once, however many processes start together."""
    from mlflow.store.db import utils
    from mlflow.tracking import MlflowClient

    with FileLock(f"{database}.lock", timeout=LOCK_SECONDS):
        if not database.exists() or (database.is_file() and not database.stat().st_size):
            _create(database)
        _follow(database)  # It finds a database that is damaged or locked, which MLflow would try for minutes.
        try:
            return MlflowClient(uri)
        except Exception as error:
            if "out-of-date database schema" not in str(error):
                raise
        utils._upgrade_db(utils.create_sqlalchemy_engine_with_retry(uri))
        return MlflowClient(uri)


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
    """Let the artifacts of a database that was moved or copied be those beside it, but for what was left behind."""
    here = (database.parent / ARTIFACTS).as_uri()
    places = [("experiments", "experiment_id", "artifact_location"), ("runs", "run_uuid", "artifact_uri")]
    with closing(sqlite3.connect(database, timeout=BUSY_MS / 1000)) as connection, connection:
        for table, key, column in places:
            found = f"SELECT {key}, {column} FROM {table} WHERE {column} LIKE 'file:%/{ARTIFACTS}/%'"
            for identifier, uri in connection.execute(found).fetchall():
                moved = f"{here}/{uri.rpartition(f'/{ARTIFACTS}/')[2]}"
                if uri != moved and (table == "experiments" or _exists(moved) or not _exists(uri)):
                    connection.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (moved, identifier))


def _exists(uri: str) -> bool:
    return Path(unquote(urlparse(uri).path)).exists()
