"""20,000 damaged messages: none crashes the server, none that differs is taken for the one that was sent."""

import tracemalloc

import numpy as np
import pytest
from letters import LAYOUT, REST, START, WEIGHTS, message, resealed, sealed

from fedmpq.federated.messages import HEADER, Kind, RejectedMessage, decode_answer, encode

CASES = 5000
"""Of each of the four kinds of damage."""
SAMPLES = 7
SENT = {bits: message(bits, kind=Kind.DOWNLINK, samples=0, loss=0.0) for bits in ((2, 4, 8), (3, 3, 1), None)}
ANSWERS = {bits: encode(message(bits), LAYOUT) for bits in SENT}
LENGTH = max(map(len, ANSWERS.values()))


@pytest.fixture
def cases():
    """For each case of a kind a generator, and the bit-widths of the message that is damaged."""
    generators = map(np.random.default_rng, range(CASES))
    return [(generator, list(SENT)[generator.integers(len(SENT))]) for generator in generators]


def receive(bits, data):
    """What the server makes of `data`: None if it is refused, else within all bounds, and it means what it says."""
    try:
        answer = decode_answer(data, LAYOUT, SENT[bits], SAMPLES, bits)
    except RejectedMessage:
        return None
    assert (answer.kind, answer.round, answer.client) == (Kind.UPLINK, 3, 5)
    assert 1 <= answer.samples <= SAMPLES
    assert 0 <= answer.loss < float("inf")
    assert answer.model.is_finite()
    assert (answer.model.weights.shape, answer.model.remainder.shape) == ((WEIGHTS,), (REST,))
    if bits is None:
        assert (answer.bits, answer.scales) == (None, None)
    else:
        assert all(1 <= left <= given for left, given in zip(answer.bits, bits, strict=True))
        assert answer.scales.isfinite().all()
        assert (answer.scales >= 0).all()
    return answer


def check(bits, damaged):
    """Damage is noticed by the checksum; with a new checksum by the bounds, or it is another proper answer."""
    if damaged != ANSWERS[bits]:
        assert receive(bits, damaged) is None
    receive(bits, sealed(damaged[: HEADER.size], damaged[START:]))
    if len(damaged) >= START:
        receive(bits, resealed(damaged, length=len(damaged) - START))


@pytest.mark.parametrize("bits", SENT)
def test_what_is_not_damaged_is_accepted(bits):
    assert receive(bits, ANSWERS[bits]).bits == bits


def test_flipped_bits(cases):
    for generator, bits in cases:
        damaged = bytearray(ANSWERS[bits])
        for place in generator.integers(len(damaged), size=generator.integers(1, 9)):
            damaged[place] ^= 1 << int(generator.integers(8))
        check(bits, bytes(damaged))


def test_truncations_and_other_ends(cases):
    for generator, bits in cases:
        check(bits, ANSWERS[bits][: generator.integers(LENGTH + 1)] + generator.bytes(generator.integers(21)))


def test_swapped_sections(cases):
    for generator, bits in cases:
        own, foreign = ANSWERS[bits], ANSWERS[list(SENT)[generator.integers(len(SENT))]]
        first, second, third, fourth = sorted(generator.integers(LENGTH + 1, size=4))
        check(bits, own[:first] + own[second:third] + own[first:second] + foreign[third:fourth] + own[fourth:])


def test_lengths_that_lie(cases):
    lengths = [0, 1, 2**63, 2**64 - 1, *(len(answer) - START for answer in ANSWERS.values())]
    for generator, bits in cases:
        own, widths = ANSWERS[bits], generator.bytes(generator.integers(4))
        drawn = int(generator.integers(2**64, dtype=np.uint64))
        length = (lengths + [drawn] * 4)[generator.integers(len(lengths) + 4)]
        others = {"samples": int(generator.integers(2**32)), "quantized": int(generator.integers(256))}
        lies = {name: value for name, value in others.items() if generator.integers(2)}
        lying = resealed(own[:START] + widths + own[START + len(widths) :], length=length, **lies)
        tracemalloc.start()
        try:
            accepted = receive(bits, lying)
            taken = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert accepted is None or length == len(own) - START
        assert taken < 100_000
