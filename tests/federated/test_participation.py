from collections import Counter

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from fedmpq.federated.participation import Participation


def clients(count=10, seed=0, **changes):
    return Participation(tiny.experiment((4,) * count, **changes), seed)


@given(st.integers(1, 12), st.floats(0.01, 1), st.integers(1, 9), st.integers(0, 3), st.data())
def test_so_many_different_clients_are_asked_the_others_first(count, share, round, attempt, data):
    tried = data.draw(st.sets(st.integers(0, count - 1)))
    asked = clients(count, share=share).choose(round, attempt, tried)
    assert asked == sorted(set(asked))
    assert len(asked) == max(1, int(share * count + 0.5))
    assert set(asked) <= set(range(count))
    assert len(tried.intersection(asked)) == max(0, len(asked) - (count - len(tried)))


def test_who_is_asked_depends_on_the_seed_the_round_and_the_attempt_alone():
    def asked(seed, round, attempt):
        return tuple(clients(40, seed, share=0.25).choose(round, attempt, ()))

    keys = [(seed, round, attempt) for seed in (0, 1) for round in (1, 2) for attempt in (0, 1)]
    assert [asked(*key) for key in keys] == [asked(*key) for key in keys]
    assert len({asked(*key) for key in keys}) == 8


def test_every_client_is_asked_as_often_in_the_long_run():
    part = clients(10, share=0.3)
    often = Counter(client for round in range(1, 501) for client in part.choose(round, 0, ()))
    assert sorted(often) == list(range(10))
    assert max(abs(count - 150) for count in often.values()) < 45


@pytest.mark.parametrize("probability", [0.0, 0.2, 0.7])
def test_clients_drop_out_with_their_probability(probability):
    part = clients(dropout=probability)
    drops = [part.drops_out(round, 0, client) for round in range(300) for client in range(10)]
    assert np.mean(drops) == pytest.approx(probability, abs=0.04)
    again = clients(dropout=probability)
    assert drops == [again.drops_out(round, 0, client) for round in range(300) for client in range(10)]


def test_who_drops_out_differs_by_seed_round_attempt_and_client():
    def drops(seed=0, attempt=0, client=0):
        part = clients(seed=seed, dropout=0.5)
        return tuple(part.drops_out(round, attempt, client) for round in range(60))

    assert len({drops(), drops(seed=1), drops(attempt=1), drops(client=1)}) == 4
    assert len(set(drops())) == 2


def test_simulated_time_without_spread():
    part = clients(speed_spread=0.0, images_per_second=50.0, bandwidth=1000.0)
    assert part.seconds(3, images=100, size=500) == pytest.approx(2 + 0.5)


def test_simulated_time_differs_by_client_and_stays_the_same_over_rounds():
    part = clients(1000, speed_spread=0.5, images_per_second=100.0, bandwidth=1e6)
    computing = np.array([part.seconds(client, 100, 0) for client in range(1000)])
    sending = np.array([part.seconds(client, 0, 10**6) for client in range(1000)])
    for times in (computing, sending):
        assert np.log(times).mean() == pytest.approx(0, abs=0.06)
        assert np.log(times).std() == pytest.approx(0.5, rel=0.1)
    assert abs(np.corrcoef(computing, sending)[0, 1]) < 0.1
    assert part.seconds(7, 100, 10**6) == pytest.approx(computing[7] + sending[7])
    assert clients(1000, seed=1, speed_spread=0.5).seconds(7, 100, 0) != computing[7]


def test_late_is_after_the_deadline():
    assert not clients(deadline=None).is_late(1e9)
    assert not clients(deadline=2.0).is_late(2.0)
    assert clients(deadline=2.0).is_late(2.1)
