"""Clients on the workers of a Ray cluster: how a run spreads over machines.

Every machine needs this package and, at the same path, the prepared arrays.
"""

import logging
import os
import pickle
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fedmpq.engine.method import SOURCE, code_digest
from fedmpq.engine.pool import Died, Pool, carrier, new_worker, not_ready
from fedmpq.engine.processes import search_path, short_folder
from fedmpq.errors import UserError
from fedmpq.federated.setup import Setup
from fedmpq.federated.tasks import Task

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_TMPDIR", short_folder(40))  # Names of Ray's sockets have 66 bytes more.
try:
    import ray
except ImportError as error:
    raise UserError("execution.executor: ray is not installed; install it with: pip install 'fedmpq[ray]'") from error


class Ray(Pool):
    """Actors of an existing cluster, or of one that is started on this machine."""

    def __init__(self, setup: Setup, workers: int, address: str | None):
        """Connect or start.

        Args:
            setup: of the run.
            workers: number of actors, at most one for each processor of the cluster.
            address: of the cluster's head, e.g. `10.0.0.1:6379`; None: start one here.

        Raises:
            UserError: there is no cluster at `address`.
        """
        self.owner = not ray.is_initialized()
        if self.owner:
            here = {"address": "local", "num_cpus": workers, "include_dashboard": False}
            start = {"address": reachable(address)} if address else here
            ray.init(**start, logging_level=logging.ERROR, log_to_driver=False)
        count = min(workers, int(ray.cluster_resources().get("CPU", 1)))
        gpus = ray.cluster_resources().get("GPU", 0) if setup.device.type == "cuda" else 0
        self.actor = ray.remote(
            num_cpus=1,
            num_gpus=min(1, gpus / count),
            max_restarts=0,
            runtime_env={"env_vars": {"PYTHONPATH": search_path()}},
        )(Actor)
        self.briefing = Briefing.of(setup)
        super().__init__(setup, count)

    def _start(self) -> Any:
        return self.actor.remote(self.briefing)

    def _send(self, worker: Any, task: Task) -> Any:
        return worker.run.remote(task)

    def _completed(self) -> Iterator[tuple[Any, Any]]:
        for reference in ray.wait(list(self.busy))[0]:
            try:
                outcome = ray.get(reference)
            except ray.exceptions.RayActorError as error:
                lines = str(error).splitlines()
                outcome = not_ready(lines[-1]) if error.actor_init_failed else Died(lines[0])
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


@dataclass(frozen=True)
class Briefing:
    """What a worker on another machine begins with."""

    setup: bytes
    """Pickled by itself: other code might not be able to read it."""
    code: tuple[str, str]
    """Algorithm and network, which name the files of the method."""
    digest: str
    """Of these files."""
    place: str
    """Where they are."""

    @classmethod
    def of(cls, setup: Setup) -> "Briefing":
        """The briefing by this process's code."""
        code = setup.experiment.algorithm(setup.algorithm_name).of, setup.experiment.model.network
        return cls(pickle.dumps(setup), code, code_digest(*code), f"{socket.gethostname()}:{SOURCE}")

    def worker(self) -> Any:
        """The worker that carries out the tasks of the run.

        Raises:
            UserError: the code here is another.
        """
        if code_digest(*self.code) != self.digest:
            here = f"{socket.gethostname()}:{SOURCE}"
            raise UserError(f"the code of a worker, in {here}, differs from that of the run, in {self.place}")
        return new_worker(pickle.loads(self.setup))


class Actor:
    """A worker in a process of Ray's."""

    def __init__(self, briefing: Briefing):
        self.carry_out = carrier(Briefing.worker, briefing)

    def run(self, task: Task) -> Any:
        """See `carry_out`."""
        return self.carry_out(task)
