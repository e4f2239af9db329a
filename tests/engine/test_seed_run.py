import json
import re
import shutil

import pandas as pd
import pytest
import tiny
import torch

from fedmpq.config import Execution
from fedmpq.engine.cell import Cell
from fedmpq.engine.results import BITS, read_table
from fedmpq.engine.seed_run import SeedRun, write_results
from fedmpq.errors import UserError

HERE = Execution(executor="sequential")
NOT_REPEATED = ["seconds"]


@pytest.fixture
def root(tmp_path, data):
    """A project with prepared arrays; partitions it makes as they are needed."""
    shutil.copytree(data, tmp_path / "data/prepared/tiny")
    return tmp_path


def cell(root, algorithm="fedmpq", alpha=0.5, device="cpu", precision="float32", **changes):
    settings = tiny.experiment(**{"rounds": 4, "activation_bits": 4, **changes})
    return Cell(root, "tiny", settings, algorithm, alpha, "0.5", torch.device(device), precision)


def finished(run):
    """The run after its last round, and what each round yielded."""
    return run, list(run.rounds(HERE))


def results(folder, runs):
    """Names and contents of the results, without what differs from run to run."""
    write_results(runs, HERE, folder)
    rounds = pd.read_csv(folder / "rounds.csv").drop(columns=NOT_REPEATED).to_csv()
    metrics = json.loads((folder / "run.json").read_text())
    metrics.pop("seconds_per_round")
    return rounds, (folder / "bits.csv").read_text(), metrics, [run.model_file.read_bytes() for run in runs]


@pytest.mark.parametrize("algorithm", ["fedmpq", "fp32", "uveqfed"])
@pytest.mark.parametrize("after", [0, 1, 3, 4])
def test_a_run_that_was_cut_off_ends_with_the_same_bytes(root, algorithm, after):
    run, _ = finished(SeedRun(cell(root, algorithm), 0))
    expected = results(root / "results/whole", [run])
    shutil.rmtree(run.folder)

    cut = SeedRun(cell(root, algorithm), 0)
    rounds = cut.rounds(HERE)
    for _ in range(after):
        next(rounds)
    rounds.close()
    rest, yielded = finished(SeedRun(cell(root, algorithm), 0))
    # The round that was yielded last had not been saved when the run was cut off: it is done again.
    first = max(after, 1)
    assert [row["round"] for row, _ in yielded] == list(range(first, 5))
    assert results(root / "results/resumed", [rest]) == expected


def test_a_complete_run_has_nothing_left_to_do(root):
    _, yielded = finished(SeedRun(cell(root), 0))
    assert [row["round"] for row, _ in yielded] == [1, 2, 3, 4]
    again, nothing = finished(SeedRun(cell(root), 0))
    assert not nothing
    assert (again.done, list(again.past())) == (4, yielded)


def test_each_round_yields_its_own_rows(root):
    _, yielded = finished(SeedRun(cell(root), 0))
    assert not list(SeedRun(cell(root, lr=0.07), 0).past())
    assert list(SeedRun(cell(root), 0).past()) == yielded
    assert all({bits["round"] for bits in rows} == {row["round"]} for row, rows in yielded)


def test_results_of_two_seeds(root):
    two = cell(root, seeds=[0, 1], rounds=2)
    runs = [finished(SeedRun(two, seed))[0] for seed in (0, 1)]
    _, _, metrics, _ = results(root / "results", runs)
    assert list(pd.read_csv(root / "results/rounds.csv")["seed"]) == [0, 0, 1, 1]
    table = pd.read_csv(root / "results/bits.csv")
    assert len(table) == 2 * 2 * 3 * 2
    assert list(table) == ["seed", "round", "client", "budget", "layer", "parameters", "bits_given", "bits_left"]
    weighted = (table["bits_given"] * table["parameters"]).sum() / table["parameters"].sum()
    assert metrics["average_bits"]["given"] == pytest.approx(weighted)
    assert metrics["final_accuracy"]["mean"] == pytest.approx(
        pd.read_csv(root / "results/rounds.csv").test_accuracy.mean()
    )
    assert metrics["partition"] == {f"seed-{seed}": two.partition_hash(seed) for seed in (0, 1)}
    assert metrics["partition"]["seed-0"] != metrics["partition"]["seed-1"]
    assert (metrics["experiment"], metrics["algorithm"], metrics["alpha"]) == ("tiny", "fedmpq", 0.5)
    assert (metrics["seeds"], metrics["rounds"], metrics["fingerprint"]) == ([0, 1], 2, two.fingerprint)
    assert metrics["parameters"]["lambda"] == two.experiment.algorithm("fedmpq").lambda_
    assert (metrics["hardware"]["executor"], metrics["hardware"]["workers"]) == ("sequential", 1)
    assert metrics["hardware"]["cores"] >= 1


@pytest.mark.parametrize("seeds", [[0, 1], [1, 0]])
def test_a_seed_added_later_makes_the_results_of_both(root, seeds):
    both = cell(root, seeds=seeds, rounds=2)
    whole = results(root / "whole", [finished(SeedRun(both, seed))[0] for seed in seeds])
    first = cell(root, seeds=[0], rounds=2)
    write_results([SeedRun(first, 0)], HERE, root / "grown")
    write_results([SeedRun(both, 1)], HERE, root / "grown", held=[0])
    grown = json.loads((root / "grown/run.json").read_text())
    assert grown.pop("seconds_per_round") > 0
    assert whole[2].pop("earlier") == {}
    assert grown.pop("earlier") == {"seed-0": {key: grown[key] for key in ("hardware", "commit")}}
    assert grown == whole[2]
    assert (root / "grown/bits.csv").read_text() == whole[1]


def test_what_is_full_precision_counts_32_bits(root):
    run, _ = finished(SeedRun(cell(root, "fedpaq", rounds=1), 0))
    _, _, metrics, _ = results(root / "results", [run])
    assert metrics["average_bits"] == {"given": 32, "left": pytest.approx((2 + 4 + 8) / 3), "all": 32}
    bits = read_table(root / "results/bits.csv", BITS)
    weights = bits.groupby("layer")["parameters"].first().sum()
    assert metrics["bytes_per_client_and_round"]["downlink"] > 4 * weights
    assert weights * 14 / 24 < metrics["bytes_per_client_and_round"]["uplink"] < weights


def test_the_final_model_can_be_loaded(root):
    run, _ = finished(SeedRun(cell(root, network="resnet8", rounds=1), 0))
    state = torch.load(run.model_file, weights_only=True)
    model, *_ = run.cell.setup(0).build_model()
    model.load_state_dict(state)


def test_results_appear_as_a_whole_or_not_at_all(root):
    run, _ = finished(SeedRun(cell(root, rounds=1), 0))
    folder = root / "results"
    write_results([run], HERE, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    rounds = run.folder / "rounds.csv"
    rounds.write_text(re.sub(r"^(0,1),[0-9.]*", r"\1,nan", rounds.read_text(), flags=re.MULTILINE))
    run.last.sizes["rounds.csv"] = rounds.stat().st_size
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_results([run], HERE, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not [path for path in root.iterdir() if path.name.endswith(".tmp")]


# Fingerprints


def test_whatever_determines_a_result_is_in_its_fingerprint(root):
    def fingerprint(**changes):
        return cell(root, **changes).seed_fingerprint(0)

    fedmpq = {"lambda": 0.1, "epsilon": 0.025, "min_bits": 1}
    base = fingerprint(fedmpq=fedmpq)
    assert fingerprint(fedmpq=fedmpq) == base
    # What does not: other algorithms' own parameters, the seeds beside this one, the share held out for tuning.
    for same in ({"seeds": [0, 1]}, {"fp32": {"aggregation": "updates"}}, {"validation": 0.2}):
        assert fingerprint(fedmpq=fedmpq, **same) == base
    others = [
        {"lr": 0.06},
        {"rounds": 5},
        {"quantizer": "normal"},
        {"fedmpq": {**fedmpq, "lambda": 0.2}},
        {"fedmpq": {**fedmpq, "aggregation": "updates"}},
        {"alpha": 0.6},
        {"algorithm": "pruning"},
        {"precision": "bfloat16"},
        {"device": "cuda"},
        {"network": "user_models:normed"},
    ]
    found = [fingerprint(**{"fedmpq": fedmpq, **other}) for other in others]
    found.append(cell(root, fedmpq=fedmpq, seeds=[0, 1]).seed_fingerprint(1))
    assert len({base, *found}) == len(others) + 2


def test_other_data_and_another_partition_change_the_fingerprint(root):
    base = cell(root).fingerprint
    tiny.partition(3).save(cell(root).partition_file(0))
    other = cell(root).fingerprint
    labels = root / "data/prepared/tiny/train_labels.npy"
    content = bytearray(labels.read_bytes())
    content[-8] = (content[-8] + 1) % 3
    labels.write_bytes(content)
    assert len({base, other, cell(root).fingerprint}) == 3


@pytest.mark.parametrize(
    "model", ["no_such_module:factory", "no.such.module:factory", ":factory", "user_models:nothing"]
)
def test_a_model_that_is_not_there_is_a_users_error(root, model):
    with pytest.raises(UserError, match=r"^model\.network: cannot import"):
        finished(SeedRun(cell(root, network=model), 0))


# What is missing


def test_data_that_cannot_be_made_are_named(root):
    shutil.rmtree(root / "data/prepared")
    with pytest.raises(UserError, match=rf"^no data set 'tiny': put .* in {root}/data/raw/tiny/"):
        SeedRun(cell(root), 0)


@pytest.mark.parametrize("content", [b"", b"no archive"])
def test_a_damaged_partition_is_named(root, content):
    path = cell(root).partition_file(0)
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"^{path} is damaged"):
        SeedRun(cell(root), 0)
    path.unlink()
    with pytest.raises(UserError, match=rf"^{path} is missing"):
        SeedRun(cell(root), 0)


def test_a_seed_is_run_by_one_process_at_a_time(root):
    run, other = SeedRun(cell(root), 0), SeedRun(cell(root, lr=0.07), 0)
    with run.lock():
        with other.lock():
            pass
        with pytest.raises(UserError, match="is being written by process"), SeedRun(cell(root), 0).lock():
            pass
    with SeedRun(cell(root), 0).lock():
        pass
