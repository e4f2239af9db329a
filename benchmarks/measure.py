"""How things are measured, and what a benchmark finds: whether two medians make what was asked for."""

import operator
import re
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from signal import SIG_DFL, SIGINT, signal
from statistics import median
from threading import Timer
from timeit import timeit
from typing import Any, NamedTuple

import psutil

from fedmpq.errors import UserError

AT_MOST, AT_LEAST = "at most", "at least"
COMPARE = {"x": operator.truediv, "%": lambda measured, against: 100 * measured / against, "s": operator.sub}
"""What two medians make, by its unit: how many times the other, which part of it, what is added to it."""
LIMIT = 900
"""Seconds after which a command hangs, as Flower does once Ray has failed, and is killed."""
Row = dict[str, Any]
Rows = Iterator[Row]


@dataclass(frozen=True)
class Benchmark:
    """One row of the table: what is compared with what, and what is asked for."""

    name: str
    measure: str
    against: str
    bound: str  # AT_MOST | AT_LEAST
    target: float
    unit: str  # of the value and the target: x, % or s

    def row(self, measured: Sequence[float], against: Sequence[float], note: str, unit: str = "s") -> Row:
        """The row as it is written, of samples in `unit`, with its verdict; a missed target is no error."""
        value = COMPARE[self.unit](median(measured), median(against))
        holds = value <= self.target if self.bound == AT_MOST else value >= self.target
        row = self.missing(note) | {"value": value, "holds": holds}
        for side, samples in (("measured", measured), ("reference", against)):
            found = {"median": median(samples), "lowest": min(samples), "highest": max(samples)}
            row[side] = found | {"samples": len(samples), "unit": unit}
        return row

    def missing(self, reason: str) -> Row:
        """The row of a measurement that could not be made."""
        return asdict(self) | {"value": None, "holds": None, "note": reason, "measured": None, "reference": None}


def seconds(action: Callable[[], Any], number: int = 1) -> float:
    """How long `action` takes: the mean of `number` calls."""
    return timeit(action, number=number) / number


def alternate(*actions: Callable[[], Any], times: int) -> list[tuple[Any, ...]]:
    """What each of `actions` returns, called in turn, so that whatever slows the machine slows them all."""
    return list(zip(*([action() for action in actions] for _ in range(times)), strict=True))


class Watched(NamedTuple):
    """When the rounds of a training ended, in seconds since its start, and the most MiB (see `memory`) it had then."""

    times: list[float]
    peak: float


def start(command: Sequence[str | Path], folder: Path) -> subprocess.Popen:
    """Start `command` in `folder`, with a pipe from all that it prints."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    # In the background of a shell, Ctrl-C would be ignored.
    return subprocess.Popen(command, cwd=folder, preexec_fn=lambda: signal(SIGINT, SIG_DFL), **pipes)


def watch(process: subprocess.Popen, weigh: bool = False) -> Watched:
    """Watch what `start` has started, to its end; to `weigh` it takes 50 ms of a core after each round.

    Raises:
        UserError: its exit code is not 0, or no round ended; the text has its last words.
    """
    started, times, looks, words, limit = time.time(), [], [0.0], deque(maxlen=3), Timer(LIMIT, process.kill)
    limit.daemon = True
    limit.start()
    with process:
        for line in process.stdout:
            words.append(line.strip())
            if re.search(r"\bround \d", line):
                times.append(time.time() - started)
                looks += [memory(process.pid)] if weigh else []
    limit.cancel()
    if process.returncode or not times:
        raise UserError(" / ".join(words) or f"exit code {process.returncode}")
    return Watched(times, max(looks))


def lengths(*runs: Watched) -> list[float]:
    """Seconds of the rounds, from end to end: the first of each run, in which workers start, does not count."""
    return [end - start for run in runs for start, end in pairwise(run.times)]


def memory(pid: int) -> float:
    """MiB of a process and its descendants; what several share counts once (but on Linux alone: else, not at all)."""
    found, root = 0, psutil.Process(pid)
    for process in [root, *root.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            information = process.memory_full_info()
            found += getattr(information, "pss", 0) or information.uss
    return found / 2**20
