"""Processes that run this checkout's code, forked from a server that has imported the libraries once."""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from multiprocessing.util import get_temp_dir
from types import ModuleType
from typing import Any

from fedmpq.engine.method import SOURCE

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["fedmpq.federated.worker"])
SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")


def start_importing() -> None:
    """Let the server from which processes are forked import the libraries while this process does."""
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
    main, path, folder = sys.modules["__main__"], os.environ.get("PYTHONPATH"), tempfile.gettempdir()
    sys.modules["__main__"], os.environ["PYTHONPATH"] = ModuleType("__main__"), search_path()
    tempfile.tempdir = short_folder(70)  # The socket's name has 32 bytes more.
    try:
        get_temp_dir()
        yield
    finally:
        sys.modules["__main__"], tempfile.tempdir = main, folder
        del os.environ["PYTHONPATH"]
        if path is not None:
            os.environ["PYTHONPATH"] = path
