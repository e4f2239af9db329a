import json
from types import SimpleNamespace

import pytest

from fedmpq.engine.results import FILES
from fedmpq.errors import UserError
from pipeline.train import refuse_strangers, seeds_held


@pytest.fixture
def cell():
    return cell_of([0])


def cell_of(seeds):
    return SimpleNamespace(
        experiment=SimpleNamespace(partition=SimpleNamespace(seeds=seeds)),
        flat_parameters={"training.rounds": 3, "lambda": 0.1},
        fingerprint_of=lambda seeds: "abc" if seeds == [0] else "other",
    )


def write(folder, fingerprint="abc", **changes):
    parameters = {"training.rounds": 3, "lambda": 0.1} | changes
    accuracy = {"mean": 0.5, "std": None, "seed-0": 0.5}
    run = {
        "experiment": "digits",
        "algorithm": "fedmpq",
        "alpha": 0.5,
        "seeds": [0],
        "rounds": 3,
        "final_accuracy": accuracy,
        "best_accuracy": accuracy,
        "average_bits": {"given": 3, "left": 3, "all": 3},
        "bytes_per_client_and_round": {"uplink": 1, "downlink": 1, "nominal": 1},
        "seconds_per_round": 1,
        "hardware": {},
        "parameters": parameters,
        "partition": {"seed-0": "0"},
        "fingerprint": fingerprint,
    }
    for name in FILES:
        (folder / name).write_text(json.dumps(run) if name == "run.json" else "")


def test_a_folder_with_other_files_is_never_replaced(tmp_path):
    refuse_strangers(tmp_path / "new")
    write(tmp_path)
    refuse_strangers(tmp_path)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"holds other files, thesis\.tex for one; name another --out"):
        refuse_strangers(tmp_path)


def test_the_same_training_is_done(cell, tmp_path):
    assert seeds_held(cell, tmp_path) == []
    write(tmp_path)
    assert seeds_held(cell, tmp_path) == cell.experiment.partition.seeds


@pytest.mark.parametrize("seeds", [[0, 1], [1, 0, 2]])
def test_seeds_that_are_there_are_not_trained_again(tmp_path, seeds):
    write(tmp_path)
    assert seeds_held(cell_of(seeds), tmp_path) == [0]


def test_results_of_seeds_that_are_not_asked_for_are_kept(tmp_path):
    write(tmp_path)
    with pytest.raises(UserError, match=r"\(partition\.seeds \[0\] -> \[1\]\); name another --out, or --overwrite$"):
        seeds_held(cell_of([1]), tmp_path)


@pytest.mark.parametrize("lost", ["metrics.json", "rounds.csv", "bits.csv"])
def test_with_a_file_lost_it_is_not(cell, tmp_path, lost):
    write(tmp_path)
    (tmp_path / lost).unlink()
    assert seeds_held(cell, tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"lambda": 0.3}, "lambda 0.3 -> 0.1"),
        ({"training.rounds": 9, "epsilon": 1}, "epsilon 1 -> None, training.rounds 9 -> 3"),
        ({}, "the code, the partition or the arithmetic"),
    ],
)
def test_results_of_other_parameters_are_kept(cell, tmp_path, changes, difference):
    write(tmp_path, "other", **changes)
    with pytest.raises(
        UserError, match=rf"\({difference}\); name another --out, or --overwrite(, or, if the code .* --confirm 2)?$"
    ):
        seeds_held(cell, tmp_path)


@pytest.mark.parametrize("content", ["", "[]", '{"fingerprint": "abc"}'])
def test_damaged_results_are_named(cell, tmp_path, content):
    write(tmp_path)
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(UserError, match=r"run\.json is broken: .*; delete that folder"):
        seeds_held(cell, tmp_path)
