"""A client's training in a process that a launcher has started, and in one that is told to end."""

import os
import signal
import subprocess
import sys

import pytest
import tiny
from test_worker import Server

from fedmpq.federated.worker import Worker

LAUNCHERS = {
    "slurm": {
        "SLURM_JOB_ID": "77",
        "SLURM_JOB_NAME": "fedmpq",
        "SLURM_NTASKS": "4",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "0",
    },
    "slurm, one of several": {
        "SLURM_JOB_ID": "77",
        "SLURM_JOB_NAME": "fedmpq",
        "SLURM_NTASKS": "8",
        "SLURM_NTASKS_PER_NODE": "4",
        "SLURM_NNODES": "2",
        "SLURM_PROCID": "5",
        "SLURM_LOCALID": "1",
        "SLURM_NODEID": "1",
    },
    "torchrun": {
        "TORCHELASTIC_RUN_ID": "none",
        "RANK": "3",
        "LOCAL_RANK": "3",
        "GROUP_RANK": "1",
        "WORLD_SIZE": "4",
        "MASTER_ADDR": "no.such.host",
        "MASTER_PORT": "29500",
    },
    "kubeflow": {"RANK": "2", "WORLD_SIZE": "4", "MASTER_ADDR": "no.such.host", "MASTER_PORT": "29500"},
    "lsf": {
        "LSB_JOBID": "5",
        "LSB_DJOB_RANKFILE": "/no/such/file",
        "JSM_NAMESPACE_RANK": "1",
        "JSM_NAMESPACE_LOCAL_RANK": "1",
        "JSM_NAMESPACE_SIZE": "4",
    },
    "mpi": {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "4", "PMI_RANK": "1", "PMI_SIZE": "4"},
    "nonsense": {"SLURM_NTASKS": "many", "RANK": "first", "WORLD_SIZE": "", "TORCHELASTIC_RUN_ID": ""},
}


def trained(setup):
    return Worker(setup).train(Server(setup).task(4))


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launchers_variables_concern_no_client(data, monkeypatch, launcher):
    setup = tiny.setup(data, "aqfl")
    expected = trained(setup)
    for name, value in LAUNCHERS[launcher].items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    assert trained(setup) == expected
    assert dict(os.environ) == before


def test_a_rank_that_is_no_number_is_there_after_the_libraries_were_imported():
    check = "import os, fedmpq.federated.worker; print(os.environ['RANK'], os.environ['SLURM_PROCID'])"
    environment = {**os.environ, "RANK": "first", "LOCAL_RANK": "", "SLURM_PROCID": "z", "JSM_NAMESPACE_RANK": "x"}
    done = subprocess.run([sys.executable, "-c", check], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["first", "z"], done.stderr


def test_a_checkpoint_for_slurm_in_the_working_folder_is_left_alone(data, monkeypatch, tmp_path):
    expected = trained(tiny.setup(data, "aqfl"))
    (tmp_path / "hpc_ckpt_1.ckpt").write_bytes(b"of another training")
    monkeypatch.chdir(tmp_path)
    for name, value in LAUNCHERS["slurm"].items():
        monkeypatch.setenv(name, value)
    assert trained(tiny.setup(data, "aqfl")) == expected


def test_mpi_is_not_asked(data, monkeypatch):
    environment = "lightning.pytorch.trainer.connectors.accelerator_connector.MPIEnvironment"
    monkeypatch.setattr(f"{environment}.detect", staticmethod(lambda: pytest.fail("it would start MPI")))
    assert trained(tiny.setup(data, "aqfl"))


TOLD = """
import signal
from torch import nn
from user_models import perceptron

class Told(nn.Module):
    def __init__(self, *sizes):
        super().__init__()
        self.inner = perceptron(*sizes)

    def forward(self, images):
        if self.training:
            signal.raise_signal({number})
        return self.inner(images)
"""


@pytest.fixture
def told(data, tmp_path, monkeypatch):
    """Makes the set-up of a network that sends a signal to its process while it trains."""

    def setup(number):
        (tmp_path / f"told_{number}.py").write_text(TOLD.format(number=number))
        return tiny.setup(data, "aqfl", network=f"told_{number}:Told")

    monkeypatch.syspath_prepend(tmp_path)
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)  # Where it is ignored, as in the background.
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield setup
    for number, handler in handlers.items():
        assert signal.getsignal(number) == handler
    signal.signal(signal.SIGINT, ours)


def test_ctrl_c_is_no_exit(told):
    with pytest.raises(KeyboardInterrupt):
        trained(told(int(signal.SIGINT)))


def test_an_exit_keeps_its_status(told):
    def end(number, frame):
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, end)
    try:
        with pytest.raises(SystemExit) as stop:
            trained(told(int(signal.SIGTERM)))
        assert stop.value.code == 143
    finally:
        signal.signal(signal.SIGTERM, previous)
