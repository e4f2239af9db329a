import shutil
from dataclasses import replace

from benchmarks.project import QUICK, make
from benchmarks.rounds import rounds


def test_a_round_is_measured_beside_its_steps(tmp_path, migrated):
    shutil.copy(migrated, tmp_path)
    rows = list(rounds(tmp_path, replace(QUICK, executor="sequential")))
    assert [row["name"] for row in rows] == ["round", "round-fedmpq", "logging"]
    assert all(min(row["measured"]["lowest"], row["reference"]["lowest"]) > 0 for row in rows)
    assert rows[2]["measured"]["median"] < rows[2]["reference"]["median"]


def test_clients_that_are_alike_hold_equally_many_images(tmp_path, migrated):
    shutil.copy(migrated, tmp_path)
    partition = make(tmp_path / "alike", replace(QUICK, clients=50, images=32), "fp32", alike=True).setup(0).partition
    assert {len(partition.client(number)) for number in range(50)} == {32}
