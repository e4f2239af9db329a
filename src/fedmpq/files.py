"""Writing files so that a half-written one is never taken for a whole one."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fedmpq.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path (for a file or a folder) beside `path`, renamed to `path` on success.

    On any error the temporary is removed and what stood at `path` is left as it was.

    Raises:
        UserError: there is no space or no permission to write there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if temporary.is_dir() and path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)
    except OSError as error:
        # Only what concerns this write: an error from reading input inside the block passes through.
        if error.filename is None or str(path.parent) in str(error.filename):
            raise UserError(f"cannot write {path}: {error.strerror or error}") from error
        raise
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextmanager
def exclusive(path: Path, purpose: str, wait: bool = False) -> Iterator[None]:
    """Hold the lock file `path` inside the block; the lock goes with the process, however it ends.

    Raises:
        UserError: another process holds it, and not `wait`; the message names `purpose` and the process.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=-1 if wait else 0)
        lock.acquire()
    except Timeout as error:
        holder = _holder_file(path).read_text() if _holder_file(path).exists() else "unknown"
        raise UserError(f"{purpose} is being written by process {holder}; wait for it, or end it") from error
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        _holder_file(path).write_text(str(os.getpid()))
        yield
    finally:
        lock.release()


def _holder_file(lock: Path) -> Path:
    return lock.with_suffix(".pid")


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` as a whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` in UTF-8, as a whole or not at all."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, as a whole or not at all; NaN and infinity are refused."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def sha256(*paths: Path) -> str:
    """Hexadecimal digest of the bytes of `paths`, in their order."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()
