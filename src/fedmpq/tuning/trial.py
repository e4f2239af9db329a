"""One trial: the seeds of an experiment side by side, round by round, measured on validation images."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from statistics import fmean, stdev

import numpy as np

from fedmpq.config import Execution
from fedmpq.engine.executors import build_executor
from fedmpq.engine.results import FULL_PRECISION
from fedmpq.errors import UserError
from fedmpq.federated.messages import Bits
from fedmpq.federated.server import Federation
from fedmpq.federated.setup import Setup
from fedmpq.federated.tasks import Executor

Row = dict[str, float]


def run(setups: Sequence[Setup], execution: Execution) -> Iterator[Row]:
    """Train with all seeds, one of `setups` each, and yield a row of numbers after each round.

    Returns:
        Means over the seeds of validation `accuracy` (0 .. 1; with several seeds also `accuracy_std`) and `loss`;
        `bits_given`, `bits_left`, per weight and client; `uplink_bytes` and `downlink_bytes` of a client; `seconds`.

    Raises:
        UserError: too few clients answer, or the validation loss is not finite.
    """
    with ExitStack() as stack:
        runs = [_rounds(setup, stack.enter_context(build_executor(execution, setup))) for setup in setups]
        for rows in zip(*runs, strict=True):
            spread = {"accuracy_std": stdev(row["accuracy"] for row in rows)} if len(rows) > 1 else {}
            yield {name: fmean(row[name] for row in rows) for name in rows[0]} | spread


def _rounds(setup: Setup, executor: Executor) -> Iterator[Row]:
    federation = Federation(setup, executor)
    sizes, count = federation.layout.sizes, setup.experiment.partition.clients
    for record in federation.rounds():
        if not math.isfinite(record.loss):
            raise UserError(f"the validation loss is {record.loss} in round {record.round}")
        yield {
            "accuracy": record.accuracy,
            "loss": record.loss,
            "bits_given": _average([client.given for client in record.clients], sizes),
            "bits_left": _average([client.left for client in record.clients], sizes),
            "uplink_bytes": record.exchange.uplink_bytes / count,
            "downlink_bytes": record.exchange.downlink_bytes / count,
            "seconds": record.seconds,
        }


def _average(bits: Sequence[Bits], sizes: Sequence[int]) -> float:
    return fmean(np.average(b, weights=sizes) if b else FULL_PRECISION for b in bits)


def summarize(rows: Sequence[Row], final_rounds: int) -> Row:
    """Means of rows of `run`: of bytes over all of them, else over the last `final_rounds`; and how many there are."""
    last = rows[-final_rounds:]
    means = {name: fmean(row[name] for row in (rows if "bytes" in name else last)) for name in last[0]}
    return {**means, "bits_pruned": means["bits_given"] - means["bits_left"], "rounds": len(rows)}
