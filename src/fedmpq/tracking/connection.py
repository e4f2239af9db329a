"""The way to MLflow: where it is, its database, and what happens when it cannot be reached."""

import logging
import os
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from filelock import FileLock

from fedmpq.errors import UserError
from fedmpq.files import replacing

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

T = TypeVar("T")

# A server that is down or silent costs seconds, not the minutes of MLflow's own defaults.
PATIENCE = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
}
LOCK_SECONDS = 60


def repository(root: Path) -> Path:
    """The folder that keeps MLflow's data: `root`, or the repository of which `root` is DVC's temporary copy."""
    return Path(os.environ.get("DVC_ROOT") or root).resolve()


def tracking_uri(root: Path) -> str:
    """$MLFLOW_TRACKING_URI if set, else the database mlflow.db in the repository."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{repository(root) / 'mlflow.db'}"


def connect(root: Path) -> "Connection":
    """The connection that all runs of this process share."""
    return _connection(tracking_uri(root), repository(root))


@cache
def _connection(uri: str, folder: Path) -> "Connection":
    return Connection(uri, folder)


class Connection:
    """A client of MLflow that is made when first needed, and given up at the first failure."""

    def __init__(self, uri: str, folder: Path):
        self.uri = uri
        self.folder = folder
        self.broken = False
        self._client: MlflowClient | None = None

    @property
    def is_server(self) -> bool:
        """Whether a server, which keeps the artifacts itself, stands between us and the database."""
        return self.uri.split("+")[0].split(":")[0] not in ("sqlite", "postgresql", "mysql", "mssql")

    def artifacts(self, experiment: str) -> str | None:
        """URI of the folder for an experiment's artifacts; None: the server decides."""
        return None if self.is_server else (self.folder / "mlartifacts" / experiment).as_uri()

    @property
    def client(self) -> "MlflowClient":
        """The client. Raises whatever MLflow and its database raise."""
        if self._client is None:
            mlflow_client = _import_client(self.is_server)
            if self._is_default:
                _create_once(self.folder / "mlflow.db")
            self._client = _current_client(mlflow_client, self.uri)
        return self._client

    @contextmanager
    def required(self) -> Iterator["MlflowClient"]:
        """The client, for what has no sense without it. Raises UserError where MLflow cannot be used."""
        try:
            client = self.client
        except Exception as error:
            raise UserError(self.explain(error)) from error
        from mlflow.exceptions import MlflowException

        try:
            yield client
        except MlflowException as error:
            raise UserError(self.explain(error)) from error

    def attempt(self, action: Callable[["MlflowClient"], T]) -> T | None:
        """The result of `action(client)`; None from the first failure on, of which one line on stderr tells."""
        if self.broken:
            return None
        try:
            return action(self.client)
        except Exception as error:  # whatever it is, it must not end a training
            self.broken = True
            print(
                f"warning: {self.explain(error)}; the training goes on unlogged, `make ui` brings its results in later",
                file=sys.stderr,
                flush=True,
            )
            return None

    def explain(self, error: Exception) -> str:
        """One line: why MLflow cannot be used and what to do, without a password that the address may hold."""
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = lines[0] if len(lines[0]) <= 200 else f"{lines[0][:200]}..."
        if self._is_default:
            remedy = "check permissions and space, or move mlflow.db away: a new one is filled from results/"
        else:
            remedy = "check that address, or unset MLFLOW_TRACKING_URI"
        return re.sub(r"//[^@/\s]*@", "//", f"MLflow at {self.uri} cannot be used ({reason}); {remedy}")

    @property
    def _is_default(self) -> bool:
        return self.uri == f"sqlite:///{self.folder / 'mlflow.db'}"


def _import_client(is_server: bool) -> type["MlflowClient"]:
    """Import MLflow (seconds) without its calls home, its patience and its log."""
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if not is_server:
        from mlflow.store.db import utils

        utils.MAX_RETRY_COUNT = 2  # of 10, which take 100 s where a database is damaged
    return MlflowClient


def _create_once(database: Path) -> None:
    """Make MLflow's database where there is none: as a whole, and once, however many processes start together."""
    if _is_there(database):
        return
    with FileLock(f"{database}.lock", timeout=LOCK_SECONDS):
        if _is_there(database):
            return
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        for left in ("-wal", "-shm"):  # Of a database that was killed and moved away, SQLite would replay its log.
            database.with_name(f"{database.name}{left}").unlink(missing_ok=True)
        with replacing(database) as temporary:
            SqlAlchemyStore(f"sqlite:///{temporary}", (database.parent / "mlartifacts").as_uri()).engine.dispose()
        with sqlite3.connect(database) as connection:
            connection.execute("PRAGMA journal_mode=WAL")  # three times as fast, and readers never wait
        connection.close()


def _is_there(database: Path) -> bool:
    return database.exists() and (database.is_dir() or database.stat().st_size > 0)


def _current_client(mlflow_client: type["MlflowClient"], uri: str) -> "MlflowClient":
    """A client of `uri`, whose database, if an older MLflow made it, is migrated first."""
    try:
        return mlflow_client(uri)
    except Exception as error:
        if not uri.startswith("sqlite:///") or "out-of-date database schema" not in str(error):
            raise
    from mlflow.store.db import utils

    with FileLock(f"{uri.removeprefix('sqlite:///')}.lock", timeout=LOCK_SECONDS):
        utils._upgrade_db(utils.create_sqlalchemy_engine_with_retry(uri))
    return mlflow_client(uri)
