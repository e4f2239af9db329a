from benchmarks.torture import torture


def test_a_training_killed_at_random_moments_ends_with_the_same_bytes(tmp_path):
    assert torture(tmp_path, kills=3, seed=1) == []
