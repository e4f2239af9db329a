import pytest
import tiny
import torch

from fedmpq.engine.checkpoint import clear, fingerprint, last, save
from fedmpq.engine.executors import Sequential
from fedmpq.engine.results import bits_rows, round_row
from fedmpq.errors import UserError
from fedmpq.federated.allocation import Consensus
from fedmpq.federated.layout import FlatModel
from fedmpq.federated.server import Federation, ServerState


def saved_round(folder, round, consensus=None, before=None):
    """Save a round; the rows of each are alike but for their number."""
    model = FlatModel(torch.full((3,), round / 7), torch.tensor([float(round)]))
    rows = {"rounds.csv": [{"round": round, "loss": round / 3}], "bits.csv": [{"round": round, "layer": "a,b"}] * 2}
    return save(folder, ServerState(round, model, consensus), rows, before)


def same(one, other):
    return (one.state.round, one.state.consensus, one.row, one.sizes) == (
        other.state.round,
        other.state.consensus,
        other.row,
        other.sizes,
    ) and all(torch.equal(*(getattr(c.state.model, part) for c in (one, other))) for part in ("weights", "remainder"))


def table(folder, name="rounds.csv"):
    """The rows that count."""
    return (folder / name).read_bytes()[: last(folder).sizes[name]].decode().splitlines()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


def test_nothing_saved(folder):
    assert last(folder) is None
    clear(folder)


@pytest.mark.parametrize("consensus", [None, Consensus((8, 1), (0, 2))])
def test_what_was_saved_comes_back(folder, consensus):
    saved = saved_round(folder, 3, consensus)
    assert same(last(folder), saved)
    assert (saved.state.round, saved.row) == (3, {"round": 3, "loss": 1.0})


def test_a_checkpoint_of_a_real_run_comes_back(folder, data):
    setup = tiny.setup(data, "fedmpq", activation_bits=4, evaluate_quantized=9, dropout=0.2, max_repeats=9)
    run, saved = Federation(setup, Sequential(setup)), None
    for record in run.rounds():
        row = round_row(0, record, saved and saved.row)
        bits = bits_rows(0, record, run.layout, setup.experiment.model.budgets)
        saved = save(folder, record.state, {"rounds.csv": [row], "bits.csv": bits}, saved)
    assert same(last(folder), saved)


def test_the_last_two_are_kept_and_the_newest_is_read(folder):
    for round in (0, 1, 2, 9, 10, 100):
        saved_round(folder, round)
    assert len(list(folder.glob("*.pt"))) == 2
    assert last(folder).state.round == 100
    other = Consensus((5,), (1,))
    saved_round(folder, 100, other)
    assert last(folder).state.consensus == other


def test_rows_are_appended_and_a_checkpoint_does_not_grow_with_them(folder):
    saved, sizes = None, set()
    for round in range(1, 10):
        saved = saved_round(folder, round, before=saved)
        sizes.add((folder / f"round-{round:06}.pt").stat().st_size)
    assert len(sizes) == 1
    assert table(folder) == ["round,loss", *(f"{round},{round / 3}" for round in range(1, 10))]
    assert table(folder, "bits.csv") == ["round,layer", *(f'{n},"a,b"' for n in range(1, 10) for _ in range(2))]


@pytest.mark.parametrize("tail", [b"", b"3,", b"3,1.0\n", b"\0" * 99])
def test_what_a_round_that_was_cut_off_has_left_does_not_count(folder, tail):
    saved = saved_round(folder, 2, before=saved_round(folder, 1))
    with (folder / "rounds.csv").open("ab") as file:
        file.write(tail)
    assert same(last(folder), saved)
    saved_round(folder, 3, before=last(folder))
    assert table(folder) == ["round,loss", "1,0.3333333333333333", "2,0.6666666666666666", "3,1.0"]
    assert (folder / "rounds.csv").stat().st_size == last(folder).sizes["rounds.csv"]


@pytest.mark.parametrize("name", ["rounds.csv", "bits.csv"])
def test_a_checkpoint_whose_rows_are_not_there_does_not_count(folder, name):
    first = saved_round(folder, 1)
    saved_round(folder, 2, before=first)
    with (folder / name).open("r+b") as file:
        file.truncate(first.sizes[name])
    assert same(last(folder), first)
    (folder / name).unlink()
    assert last(folder) is None


def test_rows_that_cannot_be_written_are_one_line_and_lose_nothing(folder):
    saved = saved_round(folder, 1)
    (folder / "bits.csv").unlink()
    (folder / "bits.csv").mkdir()
    with pytest.raises(UserError, match=r"^cannot write .*bits.csv: Is a directory$"):
        saved_round(folder, 2, before=saved)
    (folder / "bits.csv").rmdir()
    (folder / "bits.csv").write_bytes(b" " * saved.sizes["bits.csv"])
    assert same(last(folder), saved)


def test_a_half_written_file_is_ignored(folder):
    """Killed while writing, a process leaves a temporary file behind; only a whole one gets the name."""
    saved_round(folder, 1)
    whole = next(folder.glob("*.pt")).read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole)):
        (folder / ".round-000002.pt.4711.tmp").write_bytes(whole[:length])
        assert last(folder).state.round == 1


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(folder):
    saved_round(folder, 2, before=saved_round(folder, 1))
    newest = max(folder.glob("round-*"))
    whole = newest.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"nonsense"):
        newest.write_bytes(content)
        assert last(folder).state.round == 1


def test_clear_forgets_the_rounds_and_nothing_else(folder):
    saved_round(folder, 1)
    (folder / "model.pt").write_bytes(b"kept")
    clear(folder)
    assert last(folder) is None
    assert names(folder) == ["model.pt"]


def test_fingerprints_tell_contents_apart_and_not_orders():
    content = {"a": 1, "b": {"c": [1, 2], "d": None}}
    assert fingerprint(content) == fingerprint({"b": {"d": None, "c": [1, 2]}, "a": 1})
    others = [{**content, "a": 2}, {**content, "b": {"c": [2, 1], "d": None}}, {**content, "e": 0}, {}]
    assert len({fingerprint(other) for other in (content, *others)}) == 5
