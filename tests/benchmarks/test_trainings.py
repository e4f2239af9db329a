from benchmarks import bench
from benchmarks.project import QUICK


def test_start_up_and_memory_of_trainings_are_measured():
    start, memory = bench.measure(["start", "memory"], QUICK)
    assert (start["name"], memory["name"]) == ("start", "memory")
    assert start["measured"]["median"] > start["reference"]["median"] > 0.5  # seconds: both import the libraries
    assert memory["measured"]["median"] > 300  # MiB: the libraries alone
