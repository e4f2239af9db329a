"""Clients on the workers of a Ray cluster: how a run spreads over machines.

Every machine needs this package and, at the same path, the prepared arrays.
"""

import logging
import os
import pickle
import socket
from typing import Any

from fedmpq.engine.method import SOURCE, code_digest
from fedmpq.engine.pool import Carrier, Died, NotReady, Pool, new_worker
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

PLACE = f"{socket.gethostname()}:{SOURCE}"


class Ray(Pool):
    """Actors of an existing cluster, or of one that is started on this machine."""

    def __init__(self, setup: Setup, workers: int, address: str | None):
        """Start so many actors, at most one for each processor of the cluster; for the rest see `connect`."""
        self.owner = not ray.is_initialized()
        if self.owner:
            connect(address, workers)
        count = min(workers, int(ray.cluster_resources().get("CPU", 1)))
        gpus = ray.cluster_resources().get("GPU", 0) if setup.device.type == "cuda" else 0
        environment = {"env_vars": {"PYTHONPATH": search_path()}}
        options = {"num_cpus": 1, "num_gpus": min(1, gpus / count), "max_restarts": 0, "runtime_env": environment}
        actor, briefing = ray.remote(**options)(Carrier), brief(setup)
        super().__init__(lambda: _Actor(actor.remote(briefed_worker, *briefing)), count)

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if self.owner:
            ray.shutdown()


class _Actor:
    def __init__(self, handle: Any):
        self.handle = handle

    def run(self, task: Task) -> Any:
        try:
            return ray.get(self.handle.run.remote(task))
        except ray.exceptions.RayActorError as error:
            lines = str(error).splitlines()
            raise (NotReady(lines[-1]) if error.actor_init_failed else Died(lines[0])) from error

    def stop(self) -> None:
        ray.kill(self.handle)


def connect(address: str | None, workers: int) -> None:
    """Join the cluster whose head is at `address`, e.g. `10.0.0.1:6379`; None: start one for so many workers here.

    Raises:
        UserError: there is none, or it refuses.
    """
    try:
        if address:  # Ray itself would try for minutes.
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=10).close()
        here = {"address": "local", "num_cpus": workers, "include_dashboard": False}
        ray.init(**({"address": address} if address else here), logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error.__cause__ or error).strip().splitlines()[-1]
        place = f"at {address} ({reason}); allowed: host:port" if address else f"here: {reason}"
        raise UserError(f"execution.ray_address: no Ray cluster {place}") from error


def brief(setup: Setup) -> tuple[tuple[str, str], str, str, bytes]:
    """What tells a worker of this process's code and of the run: see `briefed_worker`."""
    code = setup.experiment.algorithm(setup.algorithm_name).of, setup.experiment.model.network
    return code, code_digest(*code), PLACE, pickle.dumps(setup)


def briefed_worker(code: tuple[str, str], digest: str, place: str, setup: bytes) -> Any:
    """The worker for a run; UserError if the code here is another than in the `place` where the run was started.

    `code` are algorithm and network, which name the files of the method; `digest` is of these files over there. `setup`
    is pickled by itself, since other code might not be able to read it.
    """
    if code_digest(*code) != digest:
        raise UserError(f"the code of a worker, in {PLACE}, differs from that of the run, in {place}")
    return new_worker(pickle.loads(setup))
