"""A training reads arrays and partitions of the very parameters that it records, wherever they come from."""

import json
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from PIL import Image
from projects import FIVE, MINE, cell
from runs import Interfering

from fedmpq.data.arrays import Dataset
from fedmpq.data.dirichlet import draw_partition, training_samples
from fedmpq.engine import inputs
from fedmpq.errors import UserError
from fedmpq.federated.messages import Kind, decode
from fedmpq.federated.server import Federation


def made(root):
    """Names of the folders that were made beside those of the stages."""
    return {path.name for path in (root / "checkpoints/inputs").glob("*") if path.is_dir()}


# What is drawn for them


@pytest.mark.parametrize(
    ("overrides", "alpha", "seed"),
    [
        ({}, 0.5, 1),
        ({"data.train_samples": 300}, 0.5, 0),
        ({"data.image_size": 10}, 0.5, 0),
        ({"partition.min_samples": 60}, 0.5, 0),
        (FIVE, 0.5, 1),
        ({"partition.seeds": [7]}, 0.5, 7),
        ({"partition.seeds": [7, 0]}, 0.5, 0),
        ({}, 2.5, 1),
        (MINE, 3.0, 1),
    ],
)
def test_a_training_is_on_a_partition_made_for_it(after_stages, overrides, alpha, seed):
    run = cell(after_stages, overrides, "fp32", alpha)
    experiment, setup = run.experiment, run.setup(seed)
    dataset, drawn = Dataset.load(run.data), experiment.partition
    assert dataset.image_size == experiment.data.image_size
    assert dataset.classes == (["a", "b"] if experiment.data.source == "mine" else [*"0123456789"])
    expected = draw_partition(
        dataset.train_labels, drawn.clients, alpha, seed, min_samples=drawn.min_samples, max_redraws=drawn.max_redraws,
        samples=training_samples(dataset.train_labels, experiment.data.train_samples, seed),
    )  # fmt: skip
    assert setup.partition.indices.tolist() == expected.indices.tolist()
    assert setup.partition.offsets.tolist() == expected.offsets.tolist()
    assert np.diff(setup.partition.offsets).min() >= drawn.min_samples

    answers = []

    def keep(task, outcome):
        answers.append(decode(outcome, federation.layout, Kind.UPLINK, 1, task.client))
        return outcome

    federation = Federation(setup, Interfering(setup, keep))
    (record,) = federation.rounds()
    samples = experiment.data.train_samples or len(dataset.train_labels)
    assert sum(answer.samples for answer in answers) == samples
    assert len(record.clients) == drawn.clients
    assert federation.layout.weights["1.weight"] == (len(dataset.classes), 3 * dataset.image_size**2)


def test_what_the_stages_made_is_used_where_it_fits(root):
    run = cell(root)
    assert run.data == root / "data/prepared/digits"
    assert run.partition_file(1) == root / "data/partitions/digits/alpha-0.5/seed-1.npz"
    assert not (root / "checkpoints").exists()


@pytest.mark.parametrize("seeds", [[0], [1], [1, 0]])
def test_more_seeds_on_disk_do_no_harm(root, seeds):
    run = cell(root, {"partition.seeds": seeds})
    assert run.partition_file(seeds[0]) == root / f"data/partitions/digits/alpha-0.5/seed-{seeds[0]}.npz"
    assert run.seed_fingerprint(seeds[0]) == cell(root).seed_fingerprint(seeds[0])
    assert not (root / "checkpoints").exists()


def test_more_seeds_at_an_alpha_are_trained_there_and_change_nothing_else(root):
    more = {"partition.more_seeds": {0.5: [7]}}
    run, other = cell(root, more), cell(root, more, alpha=0.1)
    assert run.experiment.partition.seeds == [*other.experiment.partition.seeds, 7]
    assert run.setup(7).partition.indices.tolist() != run.setup(0).partition.indices.tolist()
    assert run.seed_fingerprint(0) == cell(root).seed_fingerprint(0)
    assert other.fingerprint == cell(root, alpha=0.1).fingerprint


def test_what_was_made_once_is_found_again(root, capsys):
    first = cell(root, {"data.train_samples": 300})
    folder = first.partition_file(0).parent
    assert folder.parent == root / "checkpoints/inputs"
    assert f"alpha-0.5 is not of these parameters: making checkpoints/inputs/{folder.name}\n" in capsys.readouterr().out
    assert cell(root, {"data.train_samples": 300}).partition_file(0).parent == folder
    assert capsys.readouterr().out == ""
    assert cell(root, {"data.train_samples": 301}).partition_file(0).parent != folder
    assert len(made(root)) == 2


# What is on disk and is of something else


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("key", "value"),
    [("clients", 9), ("min_samples", 9), ("max_redraws", 5), ("seeds", [0]), ("seeds", []), ("seeds", None),
     ("train_samples", 1400), ("alpha", 0.4), ("enforced", False), ("labels", "0" * 64), ("more", 1)],
)  # fmt: skip
def test_a_partition_of_other_parameters_is_never_used(root, key, value):
    edit(root / "data/partitions/digits/alpha-0.5/made-with.json", **{key: value})
    assert cell(root).partition_file(0).parent.parent == root / "checkpoints/inputs"
    assert cell(root).setup(1).partition.clients == 10


@pytest.mark.parametrize("content", [None, "", "[]", "3", '"x"', "null", "{}", '{"seeds": 3}', "\0"])
def test_what_has_no_proper_record_is_never_used(root, content):
    for stage in ("prepared/digits", "partitions/digits/alpha-0.5"):
        path = root / "data" / stage / "made-with.json"
        path.unlink()
        if content is not None:
            path.write_text(content)
    run = cell(root)
    assert {run.data.parent, run.partition_file(0).parent.parent} == {root / "checkpoints/inputs"}
    assert run.fingerprint == cell(root).fingerprint


@pytest.mark.parametrize(("key", "value"), [("source", "mine"), ("image_size", 16), ("image_size", None), ("x", 1)])
def test_arrays_of_other_parameters_are_never_used(root, key, value):
    edit(root / "data/prepared/digits/made-with.json", **{key: value})
    run = cell(root)
    assert run.data.parent == root / "checkpoints/inputs"
    # The same arrays: what is recorded of the partition still fits.
    assert run.partition_file(0) == root / "data/partitions/digits/alpha-0.5/seed-0.npz"


def test_a_partition_belongs_to_the_labels_that_it_divides(root):
    before = cell(root).partition_file(0)
    labels = np.load(root / "data/prepared/digits/train_labels.npy")
    np.save(root / "data/prepared/digits/train_labels.npy", labels[::-1].copy())
    assert cell(root).partition_file(0) != before


def test_arrays_made_by_hand_follow_the_raw_files(root):
    first = cell(root, MINE)
    assert len(Dataset.load(first.data).train_labels) == 60
    Image.new("RGB", (8, 8)).save(root / "data/raw/mine/train/a/61.png")
    second = cell(root, MINE)
    assert len(Dataset.load(second.data).train_labels) == 61
    assert second.fingerprint != first.fingerprint


def test_what_is_made_is_of_the_present_code(root, monkeypatch, tmp_path):
    overrides = {"partition.seeds": [5]}
    first = cell(root, overrides).partition_file(5)
    assert cell(root, overrides).partition_file(5) == first
    (tmp_path / "another.py").touch()
    monkeypatch.setattr(inputs, "CODE", (*inputs.CODE, tmp_path / "another.py", Path(__file__)))
    assert cell(root, overrides).partition_file(5) != first


def test_of_several_trainings_at_once_one_makes_it(root, capsys):
    found = []
    threads = [Thread(target=lambda: found.append(cell(root, {"data.image_size": 12}).data)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({*found}) == len(made(root)) == 1
    assert len(found) == 4
    assert capsys.readouterr().out.count("making") == 1


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"data.train_samples": 1439}, "train_samples: 1439 is not allowed; allowed: 1 to 1438"),
        ({"partition.min_samples": 140, "partition.max_redraws": 3}, "in 4 draws none gave each of the 10 clients"),
        ({"data.source": "nothing"}, "no data set 'nothing'"),
    ],
)
def test_what_cannot_be_made_leaves_nothing(root, overrides, said):
    with pytest.raises(UserError, match=said):
        cell(root, overrides).setup(0)
    assert not made(root)
