"""Processes that run this checkout's code, forked from a server that has imported the libraries once."""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from multiprocessing.util import get_temp_dir
from types import ModuleType
from typing import Any

from fedmpq.engine.method import SOURCE

FORKS = "forkserver" in multiprocessing.get_all_start_methods()
CONTEXT = multiprocessing.get_context("forkserver" if FORKS else "spawn")
SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")


def start_importing() -> None:
    """Let the server from which processes are forked import the libraries while this process does."""
    if FORKS:
        from multiprocessing import forkserver

        CONTEXT.set_forkserver_preload(["fedmpq.federated.worker"])
        with _surroundings():
            forkserver.ensure_running()


def start(target: Callable[..., None], *arguments: Any) -> BaseProcess:
    """A process of its own that runs `target`, a function of a module, and ends with this one."""
    process = CONTEXT.Process(target=target, args=arguments, daemon=True)
    with _surroundings():
        process.start()
    return process


def search_path() -> str:
    """PYTHONPATH with which another process finds the modules that this one finds, this package first."""
    return os.pathsep.join(dict.fromkeys([str(SOURCE), *filter(None, sys.path)]))


def short_folder(longest: int) -> str:
    """A folder for temporary files, of at most `longest` bytes if there is one: systems allow sockets 103 in all."""
    folder = tempfile.gettempdir()
    if len(os.fsencode(folder)) <= longest:
        return folder
    return next((short for short in SHORT_FOLDERS if os.access(short, os.W_OK | os.X_OK)), folder)


@contextmanager
def _surroundings() -> Iterator[None]:
    """What a process that is started in the block is born into.

    It finds this process's modules, whatever its environment holds. It does not run this one's script once more,
    which may lack `if __name__ == "__main__"`. And where TMPDIR is too long for a socket the server's is elsewhere.
    """
    with (
        _replaced(sys.modules, "__main__", ModuleType("__main__")),
        _replaced(os.environ, "PYTHONPATH", search_path()),
        _replaced(vars(tempfile), "tempdir", short_folder(70)),  # The socket's name has 32 bytes more.
    ):
        get_temp_dir()
        yield


@contextmanager
def _replaced(mapping: MutableMapping[str, Any], key: str, value: Any) -> Iterator[None]:
    before = mapping.get(key)
    mapping[key] = value
    try:
        yield
    finally:
        if before is None:
            del mapping[key]
        else:
            mapping[key] = before
