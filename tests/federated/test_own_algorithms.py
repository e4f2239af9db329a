"""Variants of an algorithm, algorithms from outside, and FedMPQ+ through whole rounds."""

from fractions import Fraction

import pytest
import tiny
import torch
from runs import content, federation

from fedmpq.errors import UserError
from fedmpq.federated.algorithms import build_algorithm
from fedmpq.federated.messages import Kind, decode
from fedmpq.federated.noise_balance import noise_balanced
from fedmpq.quantization.codes import FULL_RANGE, QUANTIZERS


def last(data, algorithm, **changes):
    """The state after a run, and its clients of all rounds."""
    *_, record = records = list(federation(data, algorithm, **changes).rounds())
    return content(record.state), [client for found in records for client in found.clients]


# FedMPQ+


@pytest.mark.parametrize("budgets", [(1, 2.5, 3), (2, 4, 8), (1.2, 5.7)])
@pytest.mark.parametrize("model", ["user_models:convolutional", "resnet8"])
def test_bits_balanced_by_noise_never_exceed_a_budget(data, budgets, model):
    own = {"lambda": 3.0, "epsilon": 0.3}
    run = federation(data, "fedmpq_plus", budgets=budgets, network=model, activation_bits=4, fedmpq_plus=own)
    sizes, view = run.layout.sizes, run.view(run.initial)
    assert [layer.numel() for layer in view.weights] == sizes
    for record in run.rounds():
        for client in record.clients:
            budget = budgets[client.client]
            assert client.given == noise_balanced(sizes, view.errors, budget)
            assert all(1 <= left <= given for left, given in zip(client.left, client.given, strict=True))
            assert sum(s * b for s, b in zip(sizes, client.given, strict=True)) <= Fraction(budget) * sum(sizes)
        view = run.view(record.state)


# Variants


def test_a_variant_is_its_algorithm_with_these_settings(data):
    settings = {"aggregation": "updates", "lambda": 2.0, "epsilon": 0.2, "min_bits": 2}
    plain = last(data, "fedmpq", local_epochs=3)
    changed = last(data, "fedmpq", local_epochs=3, fedmpq=settings)
    variant = {"other-one": {"of": "fedmpq", **settings}}
    assert last(data, "other-one", local_epochs=3, **variant) == changed
    assert last(data, "fedmpq", local_epochs=3, **variant) == plain != changed


def test_a_section_may_bear_the_name_of_another_algorithm(data):
    assert last(data, "aqfl", aqfl={"of": "fpq8"}) == last(data, "fpq8")
    assert last(data, "aqfl", aqfl={}) != last(data, "fpq8")


@pytest.mark.parametrize(
    ("section", "algorithm"),
    [({}, "aqfl"), ({"of": "aqfl"}, "mine"), ({"lambda": 0.0, "epsilon": 0.0}, "fedmpq_plus")],
)
@pytest.mark.parametrize(
    ("own", "shared"), [("normal", "full-range"), ("full-range", "normal"), (None, "normal"), (None, "full-range")]
)
def test_the_quantizer_of_an_algorithm_is_in_force_on_both_sides(data, section, algorithm, own, shared):
    def keep(task, outcome):
        letters.append((task.downlink, outcome))
        return outcome

    def scales(model, quantizer):
        return QUANTIZERS[quantizer].scales(model.weights.split(run.layout.sizes), sent.bits)

    letters, changes = [], {algorithm: {**section, "quantizer": own}, "quantizer": shared}
    run = federation(data, algorithm, keep, budgets=(4, 4), rounds=1, lr=1e-12, **changes)
    list(run.rounds())
    coder = run.setup.coder
    sent, answer = (
        decode(letter, run.layout, kind, 1, 0, coder) for letter, kind in zip(letters[0], Kind, strict=True)
    )
    in_force, idle = (own or shared, *{"normal", "full-range"} - {own or shared})
    assert run.experiment.flat(algorithm)["model.quantizer"] == in_force
    assert torch.equal(sent.scales, scales(run.initial.model, in_force))
    assert not torch.equal(sent.scales, scales(run.initial.model, idle))
    # The client's scales start there and grow with its weights, which stay as they were sent.
    torch.testing.assert_close(answer.scales, torch.maximum(sent.scales, scales(sent.model, in_force)))


# From outside


def own(name, **settings):
    return {"mine": {"of": f"own_algorithms:{name}", **settings}}


def test_an_algorithm_from_outside_has_settings_of_its_own(data):
    run = federation(data, "mine", **own("Halving", wide=6, aggregation="updates", quantizer="normal"))
    for record in run.rounds():
        assert {(client.given, client.left) for client in record.clients} == {((6, 2), (2, 2))}
        assert record.exchange.counts["answered"] == 3
    assert record.state.consensus.deltas == (4, 0)
    flat = run.experiment.flat("mine")
    assert {
        "of": "own_algorithms:Halving",
        "wide": 6,
        "aggregation": "updates",
        "model.quantizer": "normal",
    }.items() <= (flat.items())
    assert last(data, "mine", **own("Halving", wide=6)) != last(data, "mine", **own("Halving", wide=6, narrow=3))


def test_an_algorithm_from_outside_may_build_on_one_that_sends_updates(data):
    run, fedpaq = federation(data, "mine", rounds=1, **own("Doubling")), federation(data, "fedpaq", rounds=1)
    (ours,), (theirs,) = run.rounds(), fedpaq.rounds()
    before = run.initial.model.weights
    torch.testing.assert_close(ours.state.model.weights - before, 2 * (theirs.state.model.weights - before))


def test_an_algorithm_that_breaks_its_word_is_rejected(data):
    with pytest.raises(UserError, match=r"bit-widths \[3, 3\] exceed the \[2, 2\] allowed"):
        list(federation(data, "mine", **own("Greedy")).rounds())


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (own("Halving", wide=4, narow=3), r"own_algorithms:Halving: narow: allowed there: "),
        (own("Halving"), r"own_algorithms:Halving: wide: .*required"),
        (own("Halving", wide="4"), r"own_algorithms:Halving: wide: .*integer"),
        (own("Greedy", wide=4), r"own_algorithms:Greedy: wide: allowed there: "),
        (own("NoAlgorithm"), r"of: 'own_algorithms:NoAlgorithm' is no Algorithm; allowed: a subclass of fedmpq\."),
        (own("factory"), r"of: 'own_algorithms:factory' is no Algorithm; "),
        (own("missing"), r"of: cannot import 'own_algorithms:missing': AttributeError"),
        ({"mine": {"of": "no_such_module:X"}}, r"of: cannot import 'no_such_module:X': ModuleNotFoundError"),
        ({"mine": {"of": "own_algorithms:"}}, r"of: cannot import 'own_algorithms:'"),
        ({"mine": {"of": "user_models:torch"}}, r"of: 'user_models:torch' is a module; allowed: a function or class"),
    ],
)
def test_what_is_no_algorithm_or_has_other_settings_is_refused_in_one_line(section, said):
    settings = tiny.experiment(**section).algorithm("mine")
    with pytest.raises(UserError, match=f"^{said}") as caught:
        build_algorithm(settings, FULL_RANGE)
    assert "\n" not in str(caught.value)
