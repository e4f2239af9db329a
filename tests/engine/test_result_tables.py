import json
import subprocess
from types import SimpleNamespace

import pytest
import torch
from dvc.compare import metrics_table
from dvc.render.converter.vega import VegaConverter
from dvc.repo.metrics.show import _extract_metrics

from fedmpq.config import Execution
from fedmpq.engine import seed_run
from fedmpq.engine.checkpoint import save
from fedmpq.engine.results import BITS, EVENTS, ROUNDS, bits_rows, git_commit, read_run, read_table
from fedmpq.engine.seed_run import SeedRun, write_results
from fedmpq.errors import UserError
from fedmpq.federated.layout import FlatModel
from fedmpq.federated.server import ClientRecord, ServerState

LAYERS = ["0", "NA", "a,b"]
LAYOUT = SimpleNamespace(layers=LAYERS, sizes=[10, 20, 30])


@pytest.fixture(params=[[0], [0, 7]], ids=["one seed", "two seeds"])
def folder(request, tmp_path, monkeypatch):
    """Results of two rounds of two clients, the first of which diverged."""
    git = ["git", "-C", tmp_path, "-c", "user.name=A", "-c", "user.email=a@example.org"]
    for arguments in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "--message", "first"]):
        subprocess.run([*git, *arguments], check=True)
    cell = SimpleNamespace(
        root=tmp_path,
        name="digits",
        algorithm="fedmpq",
        alpha=0.5,
        experiment=SimpleNamespace(training=SimpleNamespace(rounds=2), partition=SimpleNamespace(seeds=request.param)),
        device=torch.device("cpu"),
        precision="float32",
        flat_parameters={"lambda": 0.1, "model.budgets": [2.0, 8.0], "model.activation_bits": None},
        partition_hash=str,
        setup=lambda seed: None,
        fingerprint_of=lambda seeds: "f",
        checkpoints=lambda seed: tmp_path / f"seed-{seed}",
    )
    runs = [SeedRun(cell, seed) for seed in request.param]
    model = FlatModel(torch.zeros(60), torch.zeros(0))
    for run in runs:
        for number, loss in ((1, float("nan")), (2, 1.5)):
            row = {"seed": run.seed, "round": number, "test_accuracy": 0.25 * number, "test_loss": loss}
            row |= {"train_loss": loss, "uplink_bytes": 100 * number, "downlink_bytes": 100 * number}
            row |= {**dict.fromkeys(EVENTS, 2), "simulated_seconds": 7.0, "seconds": 1.235}
            clients = [ClientRecord(client, (2, 8, 4), (2, 7, 4)) for client in range(2)]
            bits = bits_rows(run.seed, SimpleNamespace(round=number, clients=clients), LAYOUT, [2.0, 8.0])
            tables = {"rounds.csv": [row], "bits.csv": bits}
            run.last = save(run.folder, ServerState(number, model), tables, run.last)
    monkeypatch.setattr(seed_run, "plan", lambda *run: (1, 0))
    write_results(runs, Execution(executor="sequential"), tmp_path / "results")
    return tmp_path / "results"


def test_tables_come_back_in_their_types(folder):
    rounds, bits = read_table(folder / "rounds.csv", ROUNDS), read_table(folder / "bits.csv", BITS)
    assert bits["layer"].unique().tolist() == LAYERS
    assert rounds["test_loss"].isna().tolist()[:2] == [True, False]
    assert rounds["test_loss"][1] == 1.5
    for table, columns in ((rounds, ROUNDS), (bits, BITS)):
        assert list(table) == list(columns)
        assert all(table[name].dtype == kind for name, kind in columns.items() if kind is not str)
    assert (folder / "rounds.csv").read_text().splitlines()[1].startswith("0,1,0.25,nan,nan,100,100,2,")


def test_a_run_comes_back(folder):
    run = read_run(folder)
    assert run["final_accuracy"]["seed-0"] == 0.375
    assert run["partition"]["seed-0"] == "0"
    assert run["parameters"]["model.activation_bits"] is None
    assert run == json.loads((folder / "run.json").read_text()) | {"confirmed": None}


def test_dvc_shows_few_numbers_on_a_line(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    numbers = [name for name, value in metrics.items() if value is None or isinstance(value, float)]
    assert 4 <= len(numbers) <= 6
    path = "results/tiny-imagenet/fedmpq/alpha-0.5/metrics.json"
    shown = _extract_metrics(metrics, path)
    assert shown.keys() - numbers == {"commit"}
    table = metrics_table({"workspace": {"data": {path: {"data": shown}}}}, precision=5, round_digits=True)
    widths = [max(len(name), *map(len, column)) + 2 for name, column in table.items()]
    assert sum(widths) < 160 + 40  # with the commit


def test_results_name_commit_hardware_and_time(folder):
    metrics, run = (json.loads((folder / name).read_text()) for name in ("metrics.json", "run.json"))
    said = subprocess.check_output(["git", "-C", folder, "log", "--format=%H"], text=True).strip()
    assert metrics["commit"] == run["commit"] == said
    assert metrics["hardware"] == [run["hardware"]["processor"], "cpu"]
    assert metrics["seconds"] == run["seconds_per_round"] == 1.235


def test_without_a_commit_none_is_named(tmp_path, monkeypatch):
    assert git_commit(tmp_path) is None
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    assert git_commit(tmp_path) is None
    monkeypatch.setenv("PATH", "")
    assert git_commit(tmp_path) is None


def test_dvc_draws_nothing_of_a_run(folder):
    run = json.loads((folder / "run.json").read_text())
    assert VegaConverter("run.json", {"run.json": run}, {}).flat_datapoints("workspace") == ([], {})


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("seed,round\n0,1\n", "column client is missing"),
        (",".join(BITS) + "\n", "it has no rows"),
        (",".join(BITS) + "\n0,1,0,2.0,fc,10,,8\n", "bits.csv is broken: "),
        (",".join(BITS) + "\n0,1,0,2.0,fc,10,2.5,8\n", "bits.csv is broken: "),
        (",".join(BITS) + "\n0,1,0,2.0,fc,10,8,8,8,8\n0,1", "bits.csv is broken: "),
        ("", "bits.csv is broken: "),
        ("\0", "bits.csv is broken: "),
    ],
)
def test_a_damaged_table_is_one_line(tmp_path, text, fault):
    (tmp_path / "bits.csv").write_text(text)
    with pytest.raises(UserError, match=fault) as error:
        read_table(tmp_path / "bits.csv", BITS)
    assert "\n" not in str(error.value)
