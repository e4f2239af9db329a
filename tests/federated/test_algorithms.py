import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedmpq.config import ALGORITHM_NAMES
from fedmpq.federated.algorithms import build_algorithm
from fedmpq.federated.allocation import Consensus, View, prune_and_grow
from fedmpq.federated.noise_balance import noise_balanced
from fedmpq.quantization.codes import FULL_RANGE, NORMAL
from fedmpq.quantization.rounding import Nearest
from fedmpq.quantization.sparsity import prune_bits
from fedmpq.seeding import torch_generator

SIZES = [432, 2304, 9216, 640]
UNEQUAL = Consensus((2, 5, 3, 8), (1, 0, 2, 0))
BASELINES = ["fp32", "fpq8", "aqfl"]
PAPER = ["fedmpq", "pruning", "fedmpq_plus"]
UPDATES = ["fedpaq", "uveqfed"]


def algorithm(name, quantizer=FULL_RANGE, **changes):
    return build_algorithm(tiny.experiment(**changes).algorithm(name), quantizer)


def own(**changes):
    return {"lambda": 0.2, "epsilon": 0.025, "min_bits": 1, **changes}


def view(consensus=None):
    generator = torch_generator("weights")
    return View(SIZES, [torch.randn(size, generator=generator) for size in SIZES], NORMAL, consensus)


def layers():
    return [torch.tensor([7.0, -7.0] + [0.0] * 100), torch.linspace(-1, 1, 50), torch.zeros(9)]


def scales(weights, bits):
    return torch.stack([FULL_RANGE.scale(w, b) for w, b in zip(weights, bits, strict=True)])


def test_every_algorithm_of_the_parameters_is_there():
    built = {name: algorithm(name, fedmpq=own(), pruning=own(), fedmpq_plus=own()) for name in ALGORITHM_NAMES}
    assert [*built] == [*BASELINES, "fedmpq", "pruning", "fedmpq_plus", *UPDATES]
    assert [name for name in built if not built[name].quantizes_activations] == ["fp32", *UPDATES]
    assert [name for name in built if built[name].sends_updates] == UPDATES
    assert [name for name in built if built[name].regularization()] == PAPER
    assert [name for name in built if not isinstance(built[name].coder(0), Nearest)] == UPDATES


@pytest.mark.parametrize("consensus", [None, UNEQUAL])
@pytest.mark.parametrize("budget", [1, 2.9, 8.0])
def test_baselines_give_every_layer_the_same(budget, consensus):
    given = {name: algorithm(name).allocate(view(consensus), budget) for name in [*BASELINES, *UPDATES]}
    whole = (int(budget),) * 4
    assert given == {"fp32": None, "fpq8": (8,) * 4, "aqfl": whole, "fedpaq": None, "uveqfed": None}
    left = {name: algorithm(name).answer_bits(given[name], 4, budget) for name in given}
    assert left == given | {"fedpaq": whole, "uveqfed": whole}


@given(st.floats(1, 8))
def test_the_first_round_starts_from_the_whole_bits_of_the_budget(budget):
    fedmpq, pruning = (algorithm(name).allocate(view(), budget) for name in ("fedmpq", "pruning"))
    assert pruning == (int(budget),) * 4
    assert fedmpq == tuple(prune_and_grow(SIZES, budget, Consensus((int(budget),) * 4, (0,) * 4), 1))


@given(st.floats(2, 8), st.integers(1, 2))
def test_later_rounds_start_from_the_consensus(budget, min_bits):
    for name, grow in (("fedmpq", True), ("pruning", False)):
        found = algorithm(name, **{name: own(min_bits=min_bits)}).allocate(view(UNEQUAL), budget)
        assert found == tuple(prune_and_grow(SIZES, budget, UNEQUAL, min_bits, grow))


@pytest.mark.parametrize("consensus", [None, UNEQUAL])
@pytest.mark.parametrize("min_bits", [1, 2])
def test_bits_balanced_by_noise_depend_on_the_model_alone(consensus, min_bits):
    fedmpq_plus, seen = algorithm("fedmpq_plus", fedmpq_plus=own(min_bits=min_bits)), view(consensus)
    assert fedmpq_plus.allocate(seen, 4) == noise_balanced(SIZES, view().errors, 4, min_bits)


def test_only_the_papers_algorithms_prune_and_layer_by_layer():
    weights, bits = layers(), (8, 4, 3)
    before = scales(weights, bits)
    for name in BASELINES:
        assert algorithm(name).answer(weights, weights, bits, before) == (weights, bits, before)
    for name in PAPER:
        values, left, left_scales = algorithm(name, **{name: own(min_bits=2)}).answer(weights, weights, bits, before)
        expected = [prune_bits(w, b, s, FULL_RANGE, 0.025, 2) for w, b, s in zip(weights, bits, before, strict=True)]
        assert list(zip(left, left_scales, strict=True)) == expected
        assert left == (2, 4, 2)
        assert values is weights


@pytest.mark.parametrize("name", [*BASELINES[1:], *PAPER])
def test_a_change_is_sent_with_the_bits_that_are_left_and_scales_of_its_own(name):
    weights, old, bits = layers(), [torch.ones_like(layer) for layer in layers()], (8, 4, 3)
    changes = {name: own(min_bits=2, uplink="updates") if name in PAPER else {"uplink": "updates"}}
    sender = algorithm(name, NORMAL, **changes)
    values, left, left_scales = sender.answer(weights, old, bits, scales(weights, bits))
    assert sender.sends_updates
    assert all(torch.equal(value, new - 1) for value, new in zip(values, weights, strict=True))
    assert (left == bits) == (name in BASELINES)
    assert torch.equal(left_scales, NORMAL.scales(values, left))


@pytest.mark.parametrize("name", UPDATES)
def test_changes_are_sent_with_scales_that_leave_none_of_them_outside(name):
    sizes, bits = [7, 1, 20], (1, 2, 8)
    old, new = (torch.randn(sum(sizes), generator=torch_generator(key)).split(sizes) for key in ("old", "new"))
    answer = algorithm(name).answer([*new], [*old], bits, None)
    assert all(torch.equal(v, n - o) for v, n, o in zip(answer.values, new, old, strict=True))
    coder, reader, other = (algorithm(name).coder(key, "rounding", 1, 2) for key in (0, 0, 1))
    changes = torch.cat(answer.values)
    codes = coder.encode(changes, sizes, answer.bits, answer.scales)
    read = reader.decode(codes, sizes, answer.bits, answer.scales)
    # Neighbouring levels are scale / (2^b - 2 / sqrt 3) apart at most; a value beyond the range would be further away.
    for change, found, b, scale in zip(changes.split(sizes), read.split(sizes), bits, answer.scales, strict=True):
        assert (found - change).abs().max() <= scale / (2**b - 1.16)
    assert not torch.equal(codes, other.encode(changes, sizes, answer.bits, answer.scales))
