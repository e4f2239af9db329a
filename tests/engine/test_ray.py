import pytest
import tiny
from test_executors import outcome

from fedmpq.config import Execution
from fedmpq.engine.executors import Sequential, build_executor
from fedmpq.errors import UserError

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402


@pytest.fixture
def cluster():
    """Two nodes of one processor each, on this machine."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


def test_a_cluster_of_two_nodes_gives_the_same_bytes_as_one_after_another(data, cluster):
    own = {"lambda": 1.0, "epsilon": 0.05}
    setup = tiny.setup(data, "fedmpq", budgets=(2, 4, 8), network="resnet8", activation_bits=4, fedmpq=own)
    execution = Execution(executor="ray", ray_address=cluster.address)
    executor = build_executor(execution, setup)
    assert len({ray.get(actor.node.remote()) for actor in executor.idle}) == 2
    ray.kill(executor.idle[0])
    found = outcome(setup, executor)
    assert found == outcome(setup, Sequential(setup))
    assert not ray.is_initialized()


def test_no_cluster_at_the_address(data):
    setup = tiny.setup(data, "fedmpq")
    with pytest.raises(UserError, match=r"no Ray cluster at 127\.0\.0\.1:1"):
        build_executor(Execution(executor="ray", ray_address="127.0.0.1:1"), setup)
