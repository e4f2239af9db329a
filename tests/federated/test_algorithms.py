import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedmpq.config import ALGORITHM_NAMES
from fedmpq.federated.algorithms import build_algorithm
from fedmpq.federated.allocation import Consensus, prune_and_grow
from fedmpq.quantization.codes import scale_of
from fedmpq.quantization.sparsity import prune_bits

SIZES = [432, 2304, 9216, 640]
UNEQUAL = Consensus((2, 5, 3, 8), (1, 0, 2, 0))


def algorithm(name, **changes):
    return build_algorithm(name, tiny.experiment(**changes).algorithm(name))


def own(**changes):
    return {"lambda": 0.2, "epsilon": 0.025, "min_bits": 1, **changes}


def test_every_algorithm_of_the_parameters_is_there():
    built = {name: algorithm(name, fedmpq=own(), pruning=own()) for name in ALGORITHM_NAMES}
    assert list(built) == ["fp32", "fpq8", "aqfl", "fedmpq", "pruning"]
    assert [name for name in built if not built[name].quantizes_activations] == ["fp32"]
    assert [name for name in built if built[name].regularization()] == ["fedmpq", "pruning"]


@pytest.mark.parametrize("consensus", [None, UNEQUAL])
@pytest.mark.parametrize("budget", [1, 2.9, 8.0])
def test_baselines_give_every_layer_the_same(budget, consensus):
    assert algorithm("fp32").allocate(SIZES, budget, consensus) is None
    assert algorithm("fpq8").allocate(SIZES, budget, consensus) == (8, 8, 8, 8)
    assert algorithm("aqfl").allocate(SIZES, budget, consensus) == (int(budget),) * 4


@given(st.floats(1, 8))
def test_the_first_round_starts_from_the_whole_bits_of_the_budget(budget):
    fedmpq, pruning = (
        algorithm("fedmpq").allocate(SIZES, budget, None),
        algorithm("pruning").allocate(SIZES, budget, None),
    )
    assert pruning == (int(budget),) * 4
    assert fedmpq == tuple(prune_and_grow(SIZES, budget, Consensus((int(budget),) * 4, (0,) * 4), 1))


@given(st.floats(2, 8), st.integers(1, 2))
def test_later_rounds_start_from_the_consensus(budget, min_bits):
    for name, grow in (("fedmpq", True), ("pruning", False)):
        found = algorithm(name, **{name: own(min_bits=min_bits)}).allocate(SIZES, budget, UNEQUAL)
        assert found == tuple(prune_and_grow(SIZES, budget, UNEQUAL, min_bits, grow))


def test_only_the_papers_algorithm_prunes_and_layer_by_layer():
    weights = [torch.tensor([7.0, -7.0] + [0.0] * 100), torch.linspace(-1, 1, 50), torch.zeros(9)]
    bits = (8, 4, 3)
    scales = torch.stack([scale_of(w, b) for w, b in zip(weights, bits, strict=True)])
    for name in ("fp32", "fpq8", "aqfl"):
        assert algorithm(name).prune(weights, bits, scales) == (bits, scales)
    for name in ("fedmpq", "pruning"):
        left, left_scales = algorithm(name, **{name: own(min_bits=2)}).prune(weights, bits, scales)
        expected = [prune_bits(w, b, s, 0.025, 2) for w, b, s in zip(weights, bits, scales, strict=True)]
        assert list(zip(left, left_scales, strict=True)) == expected
        assert left == (2, 4, 2)
