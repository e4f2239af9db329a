"""Clients on the workers of a Ray cluster: how a run spreads over machines.

Every machine needs this package and, at the same path, the prepared arrays.
"""

import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

from fedmpq.engine.hardware import keep_memory
from fedmpq.engine.pool import Died, Pool, carry_out
from fedmpq.errors import UserError
from fedmpq.federated.setup import Setup
from fedmpq.federated.tasks import Task

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
try:
    import ray
except ImportError as error:
    raise UserError("execution.executor: ray is not installed; install it with: pip install 'fedmpq[ray]'") from error


class Ray(Pool):
    """Actors of an existing cluster, or of one that is started on this machine."""

    def __init__(self, setup: Setup, workers: int | None, address: str | None):
        """Connect or start.

        Args:
            setup: of the run.
            workers: number of actors; None: one for each processor of the cluster.
            address: of the cluster's head, e.g. `10.0.0.1:6379`; None: start one here.

        Raises:
            UserError: there is no cluster at `address`.
        """
        self.owner = not ray.is_initialized()
        if self.owner:
            start = {"address": reachable(address)} if address else {"num_cpus": workers, "include_dashboard": False}
            ray.init(**start, logging_level=logging.ERROR, log_to_driver=False)
        count = workers or int(ray.cluster_resources().get("CPU", 1))
        gpus = ray.cluster_resources().get("GPU", 0) if setup.device.type == "cuda" else 0
        self.actor = ray.remote(num_cpus=1, num_gpus=min(1, gpus / count), max_restarts=0)(Actor)
        super().__init__(setup, count)

    def _start(self) -> Any:
        return self.actor.remote(self.setup)

    def _send(self, worker: Any, task: Task) -> Any:
        return worker.run.remote(task)

    def _completed(self) -> Iterator[tuple[Any, Any]]:
        for reference in ray.wait(list(self.busy))[0]:
            try:
                outcome = ray.get(reference)
            except ray.exceptions.RayActorError as error:
                outcome = Died(str(error).splitlines()[0])
            yield reference, outcome

    def _stop(self, worker: Any) -> None:
        ray.kill(worker)

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if self.owner:
            ray.shutdown()


def reachable(address: str) -> str:
    """`address` (host:port), if something listens there: Ray itself would try for minutes.

    Raises:
        UserError: nothing does.
    """
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise UserError(f"execution.ray_address: no Ray cluster at {address} ({error}); allowed: host:port") from error
    return address


class Actor:
    """A worker in a process of Ray's."""

    def __init__(self, setup: Setup):
        from fedmpq.federated.worker import Worker

        keep_memory()
        self.worker = Worker(setup)

    def run(self, task: Task) -> Any:
        """See `carry_out`."""
        return carry_out(task, self.worker.run)

    def node(self) -> str:
        """Name of the machine's node in the cluster."""
        return ray.get_runtime_context().get_node_id()
