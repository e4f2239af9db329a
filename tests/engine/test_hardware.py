"""How many workers a run has, and what is told about them."""

import re
from types import SimpleNamespace

import pytest
import tiny
import torch

from fedmpq.config import Execution
from fedmpq.engine import hardware
from fedmpq.engine.executors import build_executor
from fedmpq.engine.hardware import MAIN, WORKER, plan
from pipeline import progress

GIB = 2**30


def workers(setup, execution):
    return plan(setup, execution)[0]


@pytest.fixture
def machine(monkeypatch):
    """A function that says how many cores and how much memory there are."""

    def machine(cores, memory=1000 * GIB):
        monkeypatch.setattr(hardware, "cpu_count", lambda: cores)
        monkeypatch.setattr(hardware, "available_memory", lambda: memory)

    return machine


@pytest.mark.parametrize(
    ("asked_for", "cores", "share", "found"),
    [
        (None, 24, 1.0, 4),  # one for each client
        (None, 24, 0.5, 2),  # of those that take part
        (None, 3, 1.0, 3),
        (None, 1, 1.0, 1),
        (2, 24, 1.0, 2),
        (24, 24, 1.0, 4),
        (24, 3, 1.0, 3),
    ],
)
def test_no_more_workers_than_tasks_and_cores(data, machine, asked_for, cores, share, found):
    machine(cores)
    setup = tiny.setup(data, budgets=(4,) * 4, share=share)
    assert workers(setup, Execution(workers=asked_for)) == found
    assert workers(setup, Execution(workers=asked_for, executor="ray")) == found
    assert workers(setup, Execution(workers=asked_for, executor="sequential")) == 1


def test_evaluation_is_work_for_workers_too(data, machine, monkeypatch):
    machine(24)
    monkeypatch.setattr(hardware, "EVALUATION_CHUNK", 4)
    assert workers(tiny.setup(data, budgets=(4, 4)), Execution()) == 8  # 30 test images


@pytest.mark.parametrize(("fit", "found"), [(-1.0, 1), (0.5, 1), (1.0, 1), (2.9, 2), (3.1, 3), (99, 3)])
def test_no_more_workers_than_memory_carries(data, machine, fit, found):
    setup = tiny.setup(data)
    machine(24, 2**60)
    each = (plan(setup, Execution())[1] - MAIN) / 3
    assert each > WORKER
    machine(24, MAIN + fit * each)
    assert workers(setup, Execution()) == workers(setup, Execution(workers=9)) == found
    assert plan(setup, Execution())[1] == pytest.approx(MAIN + found * each)


def test_a_gpu_is_shared_by_four(data, machine):
    machine(64)
    setup = tiny.setup(data, budgets=(4,) * 4)
    object.__setattr__(setup, "device", torch.device("cuda"))
    object.__setattr__(setup, "held_out", range(9000))
    assert workers(setup, Execution()) == 4
    assert workers(setup, Execution(workers=6)) == 6
    machine(2)
    assert workers(setup, Execution()) == 2


def test_a_clusters_machines_are_others(data, machine):
    machine(1, 0)
    setup = tiny.setup(data, budgets=(4,) * 4)
    assert workers(setup, Execution(executor="ray", ray_address="head:6379")) == 4
    assert workers(setup, Execution(executor="ray", ray_address="head:6379", workers=2)) == 2


@pytest.mark.parametrize("asked_for", [None, 1, 5])
def test_the_number_that_is_told_is_the_one_that_is_used(data, machine, asked_for):
    machine(2)
    setup = tiny.setup(data)

    about = {"name": "tiny", "algorithm": "fedmpq", "alpha_label": "0.5", "experiment": setup.experiment}
    cell = SimpleNamespace(**about, setup=lambda seed: setup)
    execution = Execution(workers=asked_for)
    told = re.search(r"about (\S+) GB of memory for (\d) workers?\b", progress.outline(cell, execution))
    with build_executor(execution, setup) as executor:
        assert len(executor.idle) == int(told[2]) == (1 if asked_for == 1 else 2)
    assert float(told[1]) == pytest.approx(plan(setup, execution)[1] / 1e9, abs=0.06)


# What there is


@pytest.fixture
def group(monkeypatch, tmp_path):
    """The folder of control groups."""
    monkeypatch.setattr(hardware, "CGROUP", tmp_path)
    hardware.available_memory.cache_clear()
    yield tmp_path
    hardware.available_memory.cache_clear()


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"memory.max": "1000\n", "memory.stat": "anon 300\nfile 600\n"}, 700),
        ({"memory.max": "max\n", "memory.stat": "anon 300\nfile 600\n"}, None),
        ({"memory/memory.limit_in_bytes": "1000\n", "memory/memory.stat": "rss 1\ntotal_rss 250\n"}, 750),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n", "memory/memory.stat": "total_rss 250\n"}, None),
        ({"memory.max": "1000\n"}, None),
    ],
)
def test_a_containers_limit_counts_and_what_it_uses(group, files, found):
    for name, content in files.items():
        (group / name).parent.mkdir(exist_ok=True)
        (group / name).write_text(content)
    assert hardware.available_memory() == found if found else hardware.available_memory() > 2**20


def test_memory_is_what_was_found_at_first(group):
    first = hardware.available_memory()
    (group / "memory.max").write_text("1000")
    (group / "memory.stat").write_text("anon 300")
    assert hardware.available_memory() == first
