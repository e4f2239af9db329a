from benchmarks import bench
from benchmarks.project import QUICK


def test_the_start_up_of_a_training_is_measured():
    (row,) = bench.measure(["start"], QUICK)
    assert row["name"] == "start"
    assert min(row[side]["median"] for side in ("measured", "reference")) > 0.5  # seconds: both import the libraries
