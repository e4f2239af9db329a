from benchmarks import bench
from benchmarks.project import QUICK


def test_the_memory_of_trainings_is_measured():
    (row,) = bench.measure(["memory"], QUICK)
    assert row["name"] == "memory"
    assert min(row["measured"]["lowest"], row["reference"]["lowest"]) > 300  # MiB: the libraries alone
