"""20,000 damaged messages: none crashes the server, none that differs is taken for the one that was sent."""

import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from letters import LAYOUT, REST, START, WEIGHTS, message, resealed, sealed

from fedmpq.federated.messages import HEADER, Kind, RejectedMessage, decode_answer, encode

CASES = 5000
"""Of each of the four kinds of damage."""
SAMPLES = 7
SENT = {bits: message(bits, kind=Kind.DOWNLINK, samples=0, loss=0.0) for bits in ((2, 4, 8), (3, 3, 1), None)}
ANSWERS = {bits: encode(message(bits), LAYOUT) for bits in SENT}
LENGTH = max(map(len, ANSWERS.values()))
PLACES = st.integers(0, LENGTH)

fuzzed = settings(max_examples=CASES, suppress_health_check=list(HealthCheck), deadline=None)
widths = st.sampled_from(list(SENT))


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


@fuzzed
@given(widths, st.lists(st.tuples(PLACES, st.integers(0, 7)), min_size=1, max_size=8))
def test_flipped_bits(bits, flips):
    damaged = bytearray(ANSWERS[bits])
    for place, bit in flips:
        damaged[place % len(damaged)] ^= 1 << bit
    check(bits, bytes(damaged))


@fuzzed
@given(widths, PLACES, st.binary(max_size=20))
def test_truncations_and_other_ends(bits, length, end):
    check(bits, ANSWERS[bits][:length] + end)


@fuzzed
@given(widths, widths, st.lists(PLACES, min_size=4, max_size=4))
def test_swapped_sections(bits, other, places):
    own, foreign = ANSWERS[bits], ANSWERS[other]
    first, second, third, fourth = sorted(places)
    check(bits, own[:first] + own[second:third] + own[first:second] + foreign[third:fourth] + own[fourth:])


@fuzzed
@given(
    widths,
    st.fixed_dictionaries(
        {"length": st.integers(0, 2**64 - 1) | st.sampled_from([len(answer) - START for answer in ANSWERS.values()])},
        optional={"samples": st.integers(0, 2**32 - 1), "quantized": st.integers(0, 255)},
    ),
    st.binary(max_size=3),
)
def test_lengths_that_lie(bits, lies, new_widths):
    own = ANSWERS[bits]
    lying = resealed(own[:START] + new_widths + own[START + len(new_widths) :], **lies)
    tracemalloc.start()
    try:
        accepted = receive(bits, lying)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert accepted is None or lies["length"] == len(own) - START
    assert taken < 100_000
