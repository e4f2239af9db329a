import shutil
from dataclasses import replace

from benchmarks.torture import SCALE, torture

TINY = replace(SCALE, images=48, test_images=100, executor="sequential")


def test_a_training_killed_at_random_moments_ends_with_the_same_bytes(tmp_path, migrated):
    shutil.copy(migrated, tmp_path)
    assert torture(tmp_path, kills=2, seed=1988, scale=TINY) == []  # SIGKILL in a round, SIGINT at the next start
