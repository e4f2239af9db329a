"""Runs on a Ray cluster of two nodes of one processor each, on this machine."""

import re

import pytest
import tiny
from test_executors import outcome

from fedmpq.config import Execution
from fedmpq.engine.executors import Sequential, build_executor
from fedmpq.engine.method import SOURCE
from fedmpq.errors import UserError

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

from fedmpq.engine.pool import Carrier  # noqa: E402
from fedmpq.engine.ray_executor import brief, briefed_worker, connect  # noqa: E402


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Started elsewhere: its environment holds another checkout."""
    other = tmp_path_factory.mktemp("other")
    (other / "fedmpq").mkdir()
    (other / "fedmpq" / "__init__.py").write_text("raise ImportError('of another checkout')")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", str(other))
        environment.setenv("RAY_worker_niceness", "0")  # Else they give way to whatever the other tests do.
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
    yield cluster
    ray.shutdown()  # Where a test has failed.
    cluster.shutdown()


def node(actor):
    return ray.get(actor.__ray_call__.remote(lambda _: ray.get_runtime_context().get_node_id()))


def test_a_cluster_of_two_nodes_gives_the_same_bytes_as_one_after_another(data, cluster):
    own = {"lambda": 1.0, "epsilon": 0.05}
    setup = tiny.setup(data, "fedmpq", budgets=(2, 4, 8), activation_bits=4, fedmpq=own)
    executor = build_executor(Execution(executor="ray", ray_address=cluster.address), setup)
    assert len(executor.idle) == 2
    assert len({node(worker.handle) for worker in executor.idle}) == 2
    ray.kill(executor.idle[0].handle)
    found = outcome(setup, executor)
    assert found == outcome(setup, Sequential(setup))
    assert not ray.is_initialized()


def test_a_worker_of_other_code_ends_the_run_with_a_line_that_names_both_folders(data):
    setup = tiny.setup(data, "fp32")
    code, digest, _, message = brief(setup)
    worker = Carrier(briefed_worker, code, digest, "elsewhere", message)
    assert isinstance(worker.run(b"no task"), RuntimeError)  # It has a worker.
    other = Carrier(briefed_worker, code, "of other files", "elsewhere:/there/src", b"unreadable").run(None)
    assert isinstance(other, UserError)
    assert re.fullmatch(rf"the code of a worker, in \S+:{SOURCE}, differs .*, in elsewhere:/there/src", str(other))


def test_no_cluster_at_the_address(data):
    setup = tiny.setup(data, "fedmpq")
    with pytest.raises(UserError, match=r"no Ray cluster at 127\.0\.0\.1:1"):
        build_executor(Execution(executor="ray", ray_address="127.0.0.1:1"), setup)


def test_a_cluster_that_refuses_is_a_line(monkeypatch):
    def refuse(**cluster):
        raise ConnectionError("Failed to connect") from RuntimeError("Traceback:\n ..\nno token\n")

    monkeypatch.setattr(ray, "init", refuse)  # Ray itself would try for a while.
    with pytest.raises(UserError, match=r"no Ray cluster here: no token$"):
        connect(None, 1)
