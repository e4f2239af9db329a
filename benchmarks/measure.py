"""How things are measured, and what a benchmark finds: whether two medians make what was asked for."""

import operator
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from signal import SIG_DFL, SIGINT, signal
from statistics import median
from timeit import timeit
from typing import Any, Literal

import psutil

from fedmpq.errors import UserError

AT_MOST, AT_LEAST = "at most", "at least"
COMPARE = {"x": operator.truediv, "%": lambda measured, against: 100 * measured / against, "s": operator.sub}
"""What two medians make, by its unit: how many times the other, which part of it, what is added to it."""
PAUSE = 20
"""A look at the memory costs milliseconds of a core: nothing is looked at for so many times as long."""
LIMIT = 900
"""Seconds after which a command hangs, as Flower does once Ray has failed, and is killed."""
Rows = Iterator[dict[str, Any]]


@dataclass(frozen=True)
class Benchmark:
    """One row of the table: what is compared with what, and what is asked for."""

    name: str
    measure: str
    against: str
    bound: Literal["at most", "at least"]
    target: float
    unit: str
    """Of the value and the target: x, % or s."""

    def row(self, measured: Sequence[float], against: Sequence[float], note: str, unit: str = "s") -> dict[str, Any]:
        """The row as it is written, of samples in `unit`, with its verdict; a missed target is no error."""
        value = COMPARE[self.unit](median(measured), median(against))
        holds = value <= self.target if self.bound == AT_MOST else value >= self.target
        medians = {"measured": summary(measured, unit), "reference": summary(against, unit)}
        return {**asdict(self), "value": value, "holds": holds, "note": note, **medians}

    def missing(self, reason: str) -> dict[str, Any]:
        """The row of a measurement that could not be made."""
        return {**asdict(self), "value": None, "holds": None, "note": reason, "measured": None, "reference": None}


def summary(samples: Sequence[float], unit: str) -> dict[str, Any]:
    """The median, and the range in which the samples lie."""
    found = {"median": median(samples), "lowest": min(samples), "highest": max(samples)}
    return {**found, "samples": len(samples), "unit": unit}


def seconds(action: Callable[[], Any], number: int = 1) -> float:
    """How long `action` takes: the mean of `number` calls."""
    return timeit(action, number=number) / number


def alternate(*actions: Callable[[], Any], times: int) -> list[tuple[Any, ...]]:
    """What each of `actions` returns, called in turn, so that whatever slows the machine slows them all."""
    return list(zip(*([action() for action in actions] for _ in range(times)), strict=True))


@dataclass(frozen=True)
class Watched:
    """What was seen of a process."""

    lines: list[tuple[float, str]]
    """What it printed, errors too; each line with its time, in seconds since the start."""
    peak: float
    """The most memory that it had at a time, in MiB; see `memory`."""

    def times(self, pattern: str) -> list[float]:
        """When it printed a line in which `pattern` is found."""
        return [at for at, line in self.lines if re.search(pattern, line)]


def start(command: Sequence[str | Path], folder: Path) -> subprocess.Popen:
    """Start `command` in `folder`, with a pipe from all that it prints."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    # In the background of a shell, Ctrl-C would be ignored.
    return subprocess.Popen(command, cwd=folder, preexec_fn=lambda: signal(SIGINT, SIG_DFL), **pipes)


def watch(process: subprocess.Popen) -> Watched:
    """Watch what `start` has started, to its end.

    Raises:
        UserError: its exit code is not 0; the text has its last words.
    """
    started, looks = time.time(), []
    with ThreadPoolExecutor() as reader, process:
        output = reader.submit(lambda: [(time.time() - started, line.rstrip()) for line in process.stdout])
        while process.poll() is None:
            looking = timeit(lambda: looks.append(memory(process.pid)), timer=time.thread_time, number=1)
            with suppress(subprocess.TimeoutExpired):
                process.wait(PAUSE * looking)
            if time.time() - started > LIMIT:
                process.kill()
        lines = output.result()
    if process.returncode:
        raise UserError(" / ".join(line for _, line in lines[-3:]) or f"exit code {process.returncode}")
    return Watched(lines, max(looks))


def memory(pid: int) -> float:
    """MiB of a process and its descendants; what several share counts once (but on Linux alone: else, not at all)."""
    found = 0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                information = process.memory_full_info()
                found += getattr(information, "pss", 0) or information.uss
    return found / 2**20
