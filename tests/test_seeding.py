import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedmpq.seeding import forked_rng, numpy_generator, torch_generator

KEYS = st.lists(st.integers(0, 5) | st.sampled_from(["batches", "dropout", "1"]), max_size=3).map(tuple)


def numpy_draws(*key):
    return tuple(numpy_generator(*key).integers(0, 2**62, 3))


def torch_draws(*key):
    return tuple(torch.randint(0, 2**62, (3,), generator=torch_generator(*key)).tolist())


def global_draws(*key):
    with forked_rng(*key):
        return tuple(torch.randint(0, 2**62, (3,)).tolist())


@pytest.mark.parametrize("draws", [numpy_draws, torch_draws, global_draws])
@given(one=KEYS, other=KEYS)
def test_draws_depend_on_the_key_alone(draws, one, other):
    assert draws(*one) == draws(*one)
    assert (draws(*one) == draws(*other)) == (one == other)


def test_draws_are_the_same_in_another_process():
    program = "from fedmpq.seeding import numpy_generator as g; print(g(3, 'speed', 7).integers(0, 2**62))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert int(said) == numpy_generator(3, "speed", 7).integers(0, 2**62)


def test_generators_of_neighbouring_keys_are_not_correlated():
    draws = np.array([numpy_generator(0, "speed", client).normal(size=200) for client in range(50)])
    correlations = np.corrcoef(draws)[np.triu_indices(50, 1)]
    assert np.abs(correlations).max() < 0.35
    assert draws.mean() == pytest.approx(0, abs=0.04)


def test_a_generator_disturbs_no_global_state():
    states = np.random.get_state()[1].copy(), torch.random.get_rng_state()  # noqa: NPY002 (that it is left alone)
    numpy_draws(1), torch_draws(1)
    assert (np.random.get_state()[1] == states[0]).all()  # noqa: NPY002
    assert torch.equal(torch.random.get_rng_state(), states[1])


def test_the_global_state_is_restored_after_the_block_also_by_an_error():
    def interrupted():
        with forked_rng(1):
            torch.rand(3)
            raise KeyError

    before = torch.random.get_rng_state()
    global_draws(1)
    assert torch.equal(torch.random.get_rng_state(), before)
    with pytest.raises(KeyError):
        interrupted()
    assert torch.equal(torch.random.get_rng_state(), before)
