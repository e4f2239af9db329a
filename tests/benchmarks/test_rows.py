import shutil
import sys

from benchmarks import rounds
from benchmarks.measure import start
from benchmarks.project import QUICK

TRAINING = "import time\nfor number in range(1, 21): print('round', number, flush=True); time.sleep(0.05)"
"""In the place of trainings, which start in seconds each: `test_whole_rounds` measures those."""


def test_start_memory_and_growth_are_measured(monkeypatch, tmp_path, migrated):
    shutil.copy(migrated, tmp_path)
    monkeypatch.setattr(rounds, "train", lambda cell: start([sys.executable, "-c", TRAINING], cell.root))
    (begin,), (memory,), growth = (
        list(make(tmp_path, QUICK)) for make in (rounds.start_up, rounds.memory, rounds.growth)
    )
    assert [row["name"] for row in growth] == ["growth-time", "growth-memory", "growth-rounds"]
    assert begin["reference"]["median"] > 0  # seconds: the libraries' import
    assert min(memory["measured"]["lowest"], memory["reference"]["lowest"]) > 1  # MiB, of Python alone
    assert growth[0]["growth"]["clients"] == QUICK.crowds
    assert min(growth[0]["growth"]["MiB"]) > 1
    assert min(growth[0]["growth"]["s"]) > 0.05
    assert [row["measured"]["samples"] for row in growth] == [19, 1, 3]
