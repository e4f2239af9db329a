import csv
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from fedmpq import tracking
from fedmpq.tracking.connection import connect

ROOT = Path(__file__).parents[2]
TINY = {
    "data": {"image_size": 8, "train_samples": 200},
    "partition": {"clients": 3, "min_samples": 5, "seeds": [0, 1]},
    "model": {"budgets": [2.0, 4.0, 8.0]},
    "training": {"rounds": 2},
}
CELLS = {"train@digits-aqfl-0.5", "train@digits-fedmpq-0.5"}
REPORTS = {"curves@digits", "report@digits"}
ALL = CELLS | REPORTS | {"check", "inputs@digits", "prepare@digits", "partition@digits"}


class Clone:
    """A clone of the project with a pipeline of seconds."""

    def __init__(self, folder):
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "MLFLOW_"))}
        path = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])
        # Another checkout's environment is active: its code must not run here.
        self.environment = kept | {"PATH": path, "PYTHONPATH": str(ROOT / "src")}

    def run(self, *command, fails=False):
        """Run a command there; returns what it printed."""
        result = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        output = result.stdout + result.stderr
        assert (result.returncode != 0) == fails, output
        return output

    def git(self, *arguments):
        return self.run("git", "-c", "user.name=A", "-c", "user.email=a@example.org", *arguments)

    def dvc(self, *arguments, **kwargs):
        return self.run(sys.executable, "-m", "dvc", *arguments, **kwargs)

    def repro(self, *arguments):
        """`dvc repro`; returns the stages that ran, those taken from the run cache, and the output."""
        output = self.dvc("repro", *arguments)
        return (
            set(re.findall("Running stage '(.*)'", output)),
            set(re.findall("Stage '(.*)' is cached", output)),
            output,
        )

    def stale(self):
        """Stages that `dvc status` names."""
        with Repo(str(self.folder)) as repo:
            return {stage.rpartition(":")[2] for stage in repo.status()}

    def configure(self, change):
        yaml = YAML()
        tree = yaml.load(self.folder / "params.yaml")
        change(tree)
        yaml.dump(tree, self.folder / "params.yaml")

    def digests(self, start):
        """Digest by path, of what dvc.lock names under `start`."""
        stages = YAML(typ="safe").load(self.folder / "dvc.lock")["stages"].values()
        outputs = [output for stage in stages for output in stage.get("outs", [])]
        return {output["path"]: output["md5"] for output in outputs if output["path"].startswith(start)}

    def contents(self, start):
        """Bytes by path, of the files below folder `start`."""
        return {path: path.read_bytes() for path in (self.folder / start).rglob("*") if path.is_file()}

    def results(self, algorithm):
        """Rows of rounds.csv without times, and the bytes of bits.csv."""
        folder = self.folder / "results" / "digits" / algorithm / "alpha-0.5"
        rows = list(csv.DictReader((folder / "rounds.csv").open()))
        return [{k: v for k, v in row.items() if k != "seconds"} for row in rows], (folder / "bits.csv").read_bytes()


@pytest.fixture(scope="module")
def clone(tmp_path_factory, migrated):
    """The project as it is now, committed or not, with a tiny `digits`."""
    clone = Clone(tmp_path_factory.mktemp("projects") / "a clone")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("results/", "reports/", "tests/", "dvc.lock")):
            (clone.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone.folder / name)
    shutil.copy(migrated, clone.folder)

    def shrink(tree):
        tree.pop("tune", None)  # its numbers need not go with so few rounds
        tree.update(experiments=["digits"], algorithms=["aqfl", "fedmpq"], alphas=[0.5])
        tree["execution"]["executor"] = "sequential"
        for group, values in TINY.items():
            tree["digits"][group].update(values)

    clone.configure(shrink)
    clone.git("init", "--quiet")
    clone.git("add", "--all")
    clone.git("commit", "--quiet", "--message", "clone")
    return clone


@pytest.fixture(scope="module")
def first(clone):
    """What the first `dvc repro` ran and printed."""
    ran, _, output = clone.repro()
    return ran, output


@contextmanager
def changed(*paths):
    """One more line in each of the files, which need not be there, inside the block."""
    before = {path: path.read_bytes() if path.exists() else None for path in paths}
    for path, content in before.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((content or b"") + b"# changed\n")
    try:
        yield
    finally:
        for path, content in before.items():
            path.unlink() if content is None else path.write_bytes(content)


def set_lambda(value):
    return lambda tree: tree["digits"]["fedmpq"].update({"lambda": value})


def test_everything_runs_and_leaves_a_report(clone, first):
    ran, output = first
    assert ran == ALL
    assert "fedmpq alpha 0.5 seed 1: round 2/2" in output
    report = clone.folder / "reports" / "digits"
    for name in ("report.md", "report.html", "summary.json", "claims.json", "../curves/digits.csv"):
        assert (report / name).stat().st_size
    assert list((report / "figures").glob("*.png"))
    summary = clone.run(sys.executable, "-m", "pipeline.summary")
    assert "FedMPQ" in summary
    assert (report / "report.html").as_uri() in summary


@pytest.fixture
def here(monkeypatch):
    """MLflow is where a clone has it."""
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)


def mlflow_runs(clone):
    client = connect(clone.folder).client
    return client.search_runs([client.get_experiment_by_name("digits").experiment_id])


def test_every_seed_is_a_finished_run_in_mlflow(clone, first, here):
    runs = mlflow_runs(clone)
    assert {(run.info.run_name, run.info.status) for run in runs} == {
        (f"{algorithm} alpha=0.5 seed={seed}", "FINISHED") for algorithm in ("aqfl", "fedmpq") for seed in (0, 1)
    }
    assert {run.data.tags["dvc.stage"] for run in runs} == CELLS
    assert {run.data.tags["mlflow.source.git.commit"] for run in runs} == {clone.git("rev-parse", "HEAD").strip()}
    assert all(f" --algorithm {run.data.params['algorithm']} " in run.data.tags["mlflow.note.content"] for run in runs)
    models = connect(clone.folder).client.search_logged_models([runs[0].info.experiment_id])
    assert {(model.name, model.status) for model in models} == {("global-model", "READY")}
    assert {model.source_run_id for model in models} == {run.info.run_id for run in runs}
    assert all({"test/accuracy", "bits/budget-2", "accuracy/final"} <= run.data.metrics.keys() for run in runs)
    assert tracking.replay(clone.folder / "results", clone.folder) == []


def test_a_second_time_there_is_nothing_to_do(clone, first):
    ran, cached, output = clone.repro()
    assert (ran, cached) == (set(), set())
    assert "Data and pipelines are up to date" in output


@pytest.mark.parametrize(
    ("files", "stale"),
    [
        (["src/fedmpq/reporting/summary.py"], {"report@digits"}),
        (["src/fedmpq/tracking/run.py", "src/fedmpq/engine/pool.py"], set()),
        (["src/fedmpq/quantization/codes.py"], {"inputs@digits"}),
        (["data/raw/mine/train/a.txt"], {"inputs@digits"}),
    ],
)
def test_a_change_of_a_file_makes_stale_what_uses_it(clone, first, files, stale):
    with changed(*(clone.folder / file for file in files)):
        assert clone.stale() == stale


def test_another_seed_gives_other_results(clone, first):
    rows, _ = clone.results("fedmpq")
    losses = {seed: [row["test_loss"] for row in rows if row["seed"] == seed] for seed in ("0", "1")}
    assert losses["0"] != losses["1"]


def test_a_training_by_hand_is_of_what_it_records(clone, first):
    """Of other samples, seeds and alpha than the stages prepared, whose outputs stay as they are."""
    prepared = clone.contents("data")
    by_hand = {"data.train_samples": 150, "partition.seeds": [7], "training.rounds": 1}
    options = [word for key, value in by_hand.items() for word in ("--set", f"{key}={value}")]
    cell = ["--experiment", "digits", "--algorithm", "fedmpq", "--alpha", "2.5", "--out", "try"]
    output = clone.run(sys.executable, "-m", "pipeline.train", *cell, *options)
    assert "3 clients, 150 training and 359 test images, 1 round of 1 epoch, 1 seed;" in output
    recorded = {}
    for path in (clone.folder / "try").glob("*.json"):
        recorded |= json.loads(path.read_text())
    assert (recorded["seeds"], recorded["alpha"], recorded["rounds"]) == ([7], 2.5, 1)
    assert recorded["parameters"].items() >= {"data.train_samples": 150, "alpha": 2.5}.items()
    assert clone.contents("data").items() >= prepared.items()


def test_only_what_depends_on_a_change_runs_again(clone, first):
    aqfl, fedmpq = clone.results("aqfl"), clone.results("fedmpq")
    clone.configure(set_lambda(5.0))
    ran, _, _ = clone.repro(*sorted(CELLS))
    assert ran == {"inputs@digits", "train@digits-fedmpq-0.5"}
    assert clone.stale() == {"check", *REPORTS}
    assert clone.results("aqfl") == aqfl
    assert clone.results("fedmpq") != fedmpq
    clone.configure(set_lambda(0.1))
    ran, cached, _ = clone.repro("train@digits-fedmpq-0.5")
    assert (ran, cached) == (set(), {"inputs@digits", "train@digits-fedmpq-0.5"})
    assert clone.results("fedmpq") == fedmpq


def test_an_experiment_in_a_copy_is_compared_and_logged_here(clone, first, here):
    setting = ["--set-param", "digits.fedmpq.lambda=7.0"]
    output = clone.dvc("exp", "run", "--temp", "--name", "strong", *setting, *sorted(CELLS))
    assert re.findall("Running stage '(.*)'", output) == ["inputs@digits", "train@digits-fedmpq-0.5"]
    metrics = json.loads(clone.dvc("metrics", "diff", "--json", "strong", "workspace"))
    assert list(metrics) == ["results/digits/fedmpq/alpha-0.5/metrics.json"]
    assert any(change["old"] != change["new"] for change in metrics.popitem()[1].values())
    clone.dvc("plots", "diff", "strong", "workspace")
    page = (clone.folder / "dvc_plots" / "index.html").read_text()
    assert all(f'"rev": "{revision}"' in page for revision in ("strong", "workspace"))
    runs = mlflow_runs(clone)
    assert {run.info.run_name for run in runs if run.data.tags.get("dvc.experiment") == "strong"} == {
        "fedmpq alpha=0.5 seed=0",
        "fedmpq alpha=0.5 seed=1",
    }


def test_an_unknown_key_is_found_before_anything_runs(clone, first):
    clone.configure(lambda tree: tree["digits"]["fedmpq"].update({"lamda": 1}))
    output = clone.dvc("repro", fails=True)
    clone.configure(lambda tree: tree["digits"]["fedmpq"].pop("lamda"))
    assert "error: params.yaml: unknown key 'digits.fedmpq.lamda'" in output
    assert set(re.findall("Running stage '(.*)'", output)) == {"check"}


def test_results_in_git_are_not_trained_again(clone, first):
    clone.git("add", "--force", "results", "dvc.lock", "params.yaml")
    clone.git("commit", "--quiet", "--message", "results")
    clone.git("clone", "--quiet", ".", "../second")
    second = Clone(clone.folder.parent / "second")
    ran, cached, _ = second.repro(*sorted(CELLS))
    assert ran == {"inputs@digits", "prepare@digits", "partition@digits"}
    assert cached == set()
    assert second.results("fedmpq") == clone.results("fedmpq")
    assert second.digests("data/") == clone.digests("data/")


def test_a_model_is_exported_from_its_run(clone, first):
    cell = ["--experiment", "digits", "--algorithm", "fedmpq", "--alpha", "0.5"]
    said = clone.run(sys.executable, "-m", "pipeline.export", *cell, "--client", "1", "--seed", "1", "--register")
    folder = Path("exports/digits/fedmpq/alpha-0.5/seed-1/budget-4")
    assert said.splitlines()[0] == f"{folder}:"
    about = json.loads((clone.folder / folder / "model.json").read_text())
    assert [layer["bits"] for layer in about["layers"]]
    assert about["accuracy"]["PyTorch"] == pytest.approx(about["accuracy"]["ONNX Runtime"], abs=1e-3)
    assert f"ONNX Runtime  accuracy {about['accuracy']['ONNX Runtime']:.4f}" in said
    assert said.endswith("registered in MLflow: fedmpq-digits-fedmpq, version 1\n")
    assert f"[4](../../{folder})" in (clone.folder / "reports/digits/report.md").read_text()


def test_only_what_uses_a_file_is_made_anew(clone, first):
    algorithms = clone.folder / "src/fedmpq/federated/algorithms"
    files = algorithms / "fedmpq.py", algorithms / "fp32.py", clone.folder / "data/raw/mine/train/a.txt"
    before = clone.results("fedmpq")
    with changed(*files):
        ran, _, _ = clone.repro(*sorted(CELLS))
        assert ran == {"inputs@digits", "train@digits-fedmpq-0.5"}  # AQFL uses none of them.
    assert clone.results("fedmpq") == before  # The change was a comment.
