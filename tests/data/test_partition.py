import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmpq.data.dirichlet import (
    apportion,
    draw_partition,
    evaluation_samples,
    stratified_subset,
    training_samples,
    typical_classes,
    validation_split,
)
from fedmpq.data.partition import Partition
from fedmpq.errors import UserError

LABELS = st.lists(st.integers(0, 12), min_size=1, max_size=200).map(lambda values: np.array(values, dtype=np.int64))
ALPHAS = st.sampled_from([5e-324, 1e-3, 0.1, 0.5, 1.0, 5.0, 1e3, 1e308])
CIFAR_LIKE = np.repeat(np.arange(10), 5000)


@given(LABELS, st.integers(1, 12), ALPHAS, st.integers(0, 5))
def test_every_sample_goes_to_exactly_one_client(labels, clients, alpha, seed):
    partition = draw_partition(labels, clients, alpha, seed)
    held = [partition.client(number) for number in range(clients)]
    assert sorted(np.concatenate(held)) == list(range(len(labels)))
    assert all((np.diff(indices) > 0).all() for indices in held)
    counts = partition.counts(labels, 13)
    assert counts.shape == (clients, 13)
    assert (counts.sum(axis=0) == np.bincount(labels, minlength=13)).all()
    assert (counts.sum(axis=1) == [len(indices) for indices in held]).all()


@given(LABELS, st.integers(1, 12), st.data())
def test_only_the_samples_asked_for_are_divided(labels, clients, data):
    samples = data.draw(st.lists(st.integers(0, len(labels) - 1), min_size=1, unique=True).map(sorted))
    partition = draw_partition(labels, clients, 0.5, 0, samples=np.array(samples))
    assert sorted(partition.indices) == samples


@given(LABELS, st.integers(2, 12), ALPHAS)
def test_a_minimum_is_met_or_refused(labels, clients, alpha):
    try:
        partition = draw_partition(labels, clients, alpha, 0, min_samples=2, max_redraws=5)
    except UserError:
        return
    assert np.diff(partition.offsets).min() >= 2


def test_same_seed_same_bytes_and_another_seed_or_alpha_differs(tmp_path):
    def content(alpha, seed):
        draw_partition(CIFAR_LIKE, 10, alpha, seed).save(tmp_path / "p.npz")
        return (tmp_path / "p.npz").read_bytes()

    assert content(0.5, 0) == content(0.5, 0)
    assert content(1, 0) == content(1.0, 0)
    assert len({content(alpha, seed) for alpha in (0.1, 0.5) for seed in (0, 1)}) == 4


def test_samples_of_a_label_are_dealt_at_random():
    first = draw_partition(CIFAR_LIKE, 10, 5, 0).client(0)
    within = first[CIFAR_LIKE[first] == 3] - 15000
    assert 2000 < within.mean() < 3000


@pytest.mark.parametrize("alpha", [0.1, 0.5, 5.0])
def test_shares_vary_as_those_of_a_dirichlet_distribution(alpha):
    shares = np.concatenate([draw_partition(CIFAR_LIKE, 10, alpha, s).counts(CIFAR_LIKE, 10) for s in range(30)]) / 5000
    assert shares.var() == pytest.approx(0.1 * 0.9 / (10 * alpha + 1), rel=0.15)


@pytest.mark.parametrize(("alpha", "least", "most"), [(0.1, 2, 3), (5.0, 8, 10)])
def test_a_client_typically_holds_two_or_three_classes_at_01_and_almost_all_at_5(alpha, least, most):
    typical = [typical_classes(draw_partition(CIFAR_LIKE, 10, alpha, s).counts(CIFAR_LIKE, 10)) for s in range(15)]
    assert least <= np.median(typical) <= most


def test_typical_classes_leaves_out_stray_samples_and_empty_clients():
    counts = np.array([[95, 5, 0], [0, 0, 0], [50, 45, 5], [100, 0, 0]])
    assert typical_classes(counts) == 1
    assert typical_classes(counts, share=1) == 2


def test_a_minimum_that_no_draw_meets_is_an_error_that_says_what_to_change():
    with pytest.raises(UserError) as caught:
        draw_partition(np.zeros(100, dtype=int), 10, 0.1, 0, min_samples=10, max_redraws=20)
    assert str(caught.value) == (
        "alpha 0.1: in 21 draws none gave each of the 10 clients at least 10 images"
        " (the smallest client had 0 at best); lower min_samples or clients, or raise alpha or max_redraws"
    )


def test_redraws_find_a_partition_that_the_first_draw_is_not():
    labels = np.repeat(np.arange(10), 20)
    with pytest.raises(UserError, match="in 1 draws"):
        draw_partition(labels, 10, 0.1, 2, min_samples=5, max_redraws=0)
    assert np.diff(draw_partition(labels, 10, 0.1, 2, min_samples=5, max_redraws=1000).offsets).min() >= 5


@given(
    st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=1, max_size=20).filter(any),
    st.integers(0, 100_000),
)
def test_apportion_gives_exact_totals_and_stays_within_one_of_the_exact_share(weights, total):
    parts = apportion(weights, total)
    assert parts.sum() == total
    assert (parts >= 0).all()
    assert (np.abs(parts - total * np.array(weights) / np.sum(weights)) < 1 + 1e-6).all()


def test_apportion_by_largest_remainder_the_earlier_first():
    assert apportion([0.5, 0.3, 0.2], 4).tolist() == [2, 1, 1]
    assert apportion([1, 1, 1, 1], 2).tolist() == [1, 1, 0, 0]
    assert apportion([[1, 2], [2, 1]], [3, 4]).tolist() == [[1, 2], [3, 1]]


@given(LABELS.filter(lambda labels: len(labels) > 1), st.floats(0.01, 0.99), st.integers(0, 3))
def test_validation_split_is_complete_disjoint_and_stratified(labels, share, seed):
    count = round(share * len(labels))
    if not 0 < count < len(labels):
        with pytest.raises(UserError, match=r"^validation: a share of .* leaves a part empty"):
            validation_split(labels, share, seed)
        return
    train, held_out = validation_split(labels, share, seed)
    assert len(held_out) == count
    assert sorted([*train, *held_out]) == list(range(len(labels)))
    expected = np.bincount(labels) * count / len(labels)
    assert (np.abs(np.bincount(labels[held_out], minlength=len(expected)) - expected) < 1).all()


def test_validation_split_depends_on_the_seed_alone():
    labels = np.repeat(np.arange(10), 20)
    splits = [validation_split(labels, 0.1, seed)[1].tolist() for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]


@given(LABELS, st.data())
def test_subset_of_the_training_samples_is_stratified(labels, data):
    count = data.draw(st.integers(1, len(labels)))
    subset = stratified_subset(labels, count, 0, "subset")
    assert len(subset) == len(set(subset.tolist())) == count
    expected = np.bincount(labels) * count / len(labels)
    assert (np.abs(np.bincount(labels[subset], minlength=len(expected)) - expected) < 1).all()


def test_training_samples():
    labels = np.repeat(np.arange(2), 10)
    assert training_samples(labels, None, 0).tolist() == list(range(20))
    assert training_samples(labels, 6, 0).tolist() != training_samples(labels, 6, 1).tolist()
    with pytest.raises(UserError, match=r"data\.train_samples: 21 is not allowed; allowed: 1 to 20"):
        training_samples(labels, 21, 0)


def test_evaluation_samples():
    labels = np.repeat(np.arange(2), 10)
    assert evaluation_samples(labels, None).tolist() == list(range(20))
    assert np.bincount(labels[evaluation_samples(labels, 6)]).tolist() == [3, 3]
    assert evaluation_samples(labels, 6).tolist() == evaluation_samples(labels, 6).tolist()
    with pytest.raises(UserError, match=r"data\.test_samples: 21 is not allowed; allowed: 1 to 20, the test images"):
        evaluation_samples(labels, 21)


@settings(max_examples=30)
@given(LABELS, st.integers(1, 12))
def test_save_and_load(tmp_path_factory, labels, clients):
    path = tmp_path_factory.mktemp("partition") / "seed-0.npz"
    partition = draw_partition(labels, clients, 0.5, 0)
    partition.save(path)
    loaded = Partition.load(path, len(labels))
    assert (loaded.indices == partition.indices).all()
    assert (loaded.offsets == partition.offsets).all()


@pytest.mark.parametrize(
    ("indices", "offsets", "message"),
    [
        ([0, 1, 1], [0, 1, 3], "not different ones"),
        ([0, 1, 2], [0, 2, 1, 3], "do not divide"),
        ([0, 1, 2], [0, 2], "do not divide"),
        ([0, 1, 2], [1, 3], "do not divide"),
        ([0], [], "do not divide"),
        ([0, 1, 9], [0, 1, 3], "not different ones of 5"),
        ([-1, 1, 2], [0, 1, 3], "not different ones"),
    ],
)
def test_what_is_no_partition_is_refused(tmp_path, indices, offsets, message):
    path = tmp_path / "seed-0.npz"
    np.savez(path, indices=np.array(indices), offsets=np.array(offsets, dtype=np.int64))
    with pytest.raises(UserError, match=rf"seed-0\.npz is damaged \(.*{message}.*; delete it and run: dvc repro"):
        Partition.load(path, 5)


def test_missing_and_damaged_files_are_named(tmp_path):
    path = tmp_path / "seed-0.npz"
    with pytest.raises(UserError, match=r"seed-0\.npz is missing"):
        Partition.load(path, 50_000)
    draw_partition(CIFAR_LIKE, 10, 0.5, 0).save(path)
    whole = path.read_bytes()
    array = tmp_path / "array.npy"
    np.save(array, np.arange(3))
    for content in (b"", b"nonsense", whole[: len(whole) // 2], array.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"seed-0\.npz is damaged"):
            Partition.load(path, 50_000)


def test_there_is_no_client_beyond_the_last():
    partition = draw_partition(CIFAR_LIKE, 3, 0.5, 0)
    assert partition.clients == 3
    with pytest.raises(IndexError):
        partition.client(3)
