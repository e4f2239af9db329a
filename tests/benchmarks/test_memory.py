from benchmarks import bench
from benchmarks.project import QUICK


def test_the_memory_of_trainings_is_measured():
    (row,) = bench.measure(["memory"], QUICK)
    assert row["name"] == "memory"
    assert min(row["measured"]["lowest"], row["reference"]["lowest"]) > 300  # MiB: the libraries alone


def test_growth_is_measured_over_ever_more_clients():
    time, memory, rounds = bench.measure(["growth"], QUICK)
    assert time["growth"]["clients"] == QUICK.crowds
    assert min(time["growth"]["MiB"]) > 300
    assert (time["measured"]["samples"], memory["measured"]["samples"], rounds["measured"]["samples"]) == (19, 1, 3)
