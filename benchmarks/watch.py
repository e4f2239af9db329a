"""Run a command; see when it says what, and how much memory it takes with all its children."""

import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

INTERVAL = 0.05
"""Seconds between two looks at the memory."""


class CommandFailed(Exception):
    """The command ended with an error; the text has its last words."""


@dataclass(frozen=True)
class Watched:
    """What was seen of a command."""

    started: float
    """Seconds since the epoch."""
    lines: list[tuple[float, str]]
    """What it printed, each line with its time since the epoch."""
    peak: int
    """The most memory that it had at a time, in bytes: the proportional set sizes of its processes, added up, so
    that a page that several of them share counts once."""


def watch(command: list[str], folder: Path, environment: dict[str, str]) -> Watched:
    """Run `command` in `folder` to its end.

    Raises:
        CommandFailed: its exit code is not 0.
    """
    with tempfile.TemporaryFile() as errors:
        started = time.time()
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": errors}
        with subprocess.Popen(command, cwd=folder, env=environment, text=True, **pipes) as process:
            memory = Memory(process.pid)
            lines = [(time.time(), line.rstrip()) for line in process.stdout]
            process.wait()
            peak = memory.stop()
        if process.returncode:
            errors.seek(0)
            said = [line for _, line in lines] + errors.read().decode(errors="replace").splitlines()
            raise CommandFailed(" / ".join(said[-3:]) or f"exit code {process.returncode}")
    return Watched(started, lines, peak)


class Memory(threading.Thread):
    """Follows the memory of a process and its descendants."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.root, self.peak, self.ended = psutil.Process(pid), 0, threading.Event()
        self.start()

    def run(self) -> None:
        """Look, again and again."""
        while not self.ended.wait(INTERVAL):
            self.peak = max(self.peak, total(self.root))

    def stop(self) -> int:
        """The peak, in bytes."""
        self.ended.set()
        self.join()
        return self.peak


def total(root: psutil.Process) -> int:
    """Bytes of `root` and its descendants now: their proportional set sizes; elsewhere than on Linux what they own."""
    found = 0
    with suppress(psutil.NoSuchProcess):
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                information = process.memory_full_info()
                found += getattr(information, "pss", 0) or information.uss
    return found
