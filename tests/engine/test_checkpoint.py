import pytest
import tiny
import torch

from fedmpq.engine.checkpoint import Checkpoint, CheckpointFolder, fingerprint
from fedmpq.engine.executors import Sequential
from fedmpq.engine.history import History
from fedmpq.federated.allocation import Consensus
from fedmpq.federated.layout import FlatModel
from fedmpq.federated.server import Federation, ServerState


def checkpoint(round, consensus=None):
    model = FlatModel(torch.full((3,), round / 7), torch.tensor([float(round)]))
    history = History(5, [2.0], ["fc"], [3], [{"round": r, "test_accuracy": r / 3} for r in range(1, round + 1)])
    return Checkpoint(ServerState(round, model, consensus), history)


def same(one, other):
    return (
        (one.state.round, one.state.consensus, one.history) == (other.state.round, other.state.consensus, other.history)
        and torch.equal(one.state.model.weights, other.state.model.weights)
        and torch.equal(one.state.model.remainder, other.state.model.remainder)
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path):
    return CheckpointFolder(tmp_path / "run")


def test_nothing_saved(folder):
    assert folder.last() is None
    folder.clear()


@pytest.mark.parametrize("consensus", [None, Consensus((8, 1), (0, 2))])
def test_what_was_saved_comes_back(folder, consensus):
    saved = checkpoint(3, consensus)
    folder.save(saved)
    assert same(CheckpointFolder(folder.folder).last(), saved)


def test_a_checkpoint_of_a_real_run_comes_back(folder, data):
    setup = tiny.setup(data, "fedmpq", activation_bits=4, evaluate_quantized=True, dropout=0.2, max_repeats=9)
    run = Federation(setup, Sequential(setup))
    history = History(0, setup.experiment.model.budgets, run.layout.layers, run.layout.sizes)
    for record in run.rounds():
        history.append(record)
    saved = Checkpoint(record.state, history)
    folder.save(saved)
    assert same(folder.last(), saved)
    assert list(folder.last().history.bits()) == list(history.bits())


def test_the_last_two_are_kept_and_the_newest_is_read(folder):
    for round in (0, 1, 2, 9, 10, 100):
        folder.save(checkpoint(round))
    assert len(names(folder.folder)) == 2
    assert folder.last().state.round == 100
    other = Consensus((5,), (1,))
    folder.save(checkpoint(100, other))
    assert folder.last().state.consensus == other


def test_a_half_written_file_is_ignored(folder):
    """Killed while writing, a process leaves a temporary file behind; only a whole one gets the name."""
    folder.save(checkpoint(1))
    whole = next(folder.folder.iterdir()).read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole)):
        (folder.folder / ".round-000002.pt.4711.tmp").write_bytes(whole[:length])
        assert folder.last().state.round == 1


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(folder):
    for round in (1, 2):
        folder.save(checkpoint(round))
    newest = max(folder.folder.glob("round-*"))
    whole = newest.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"nonsense"):
        newest.write_bytes(content)
        assert folder.last().state.round == 1


def test_clear_forgets_the_rounds_and_nothing_else(folder):
    folder.save(checkpoint(1))
    (folder.folder / "model.pt").write_bytes(b"kept")
    folder.clear()
    assert folder.last() is None
    assert names(folder.folder) == ["model.pt"]


def test_fingerprints_tell_contents_apart_and_not_orders():
    content = {"a": 1, "b": {"c": [1, 2], "d": None}}
    assert fingerprint(content) == fingerprint({"b": {"d": None, "c": [1, 2]}, "a": 1})
    others = [{**content, "a": 2}, {**content, "b": {"c": [2, 1], "d": None}}, {**content, "e": 0}, {}]
    assert len({fingerprint(other) for other in (content, *others)}) == 5
