"""A real search: killed in its second trial, continued, shown again, and its best values applied."""

import signal

import optuna
import pandas as pd
import pytest
from optuna.storages.journal import JournalFileBackend, JournalStorage
from PIL import Image
from ruamel.yaml import YAML

from fedmpq.config import load_parameters
from fedmpq.tracking.connection import connect
from pipeline import command, tune, tune_apply

UNREACHABLE = {"MLFLOW_TRACKING_URI": "nowhere://there"}
FIGURES = ["accuracy-over-epsilon.png", "accuracy-over-lambda.png", "history.png"]


def trials(project):
    """(state, values that were trained with) of each trial, from the file of the study."""
    path = project.root / "checkpoints/tuning/digits/study-1.journal"
    study = optuna.load_study(study_name="digits", storage=JournalStorage(JournalFileBackend(str(path))))
    return [(trial.state.name, trial.user_attrs.get("values")) for trial in study.trials]


def kill_in_second_trial(project):
    process = project.start(**UNREACHABLE)
    for line in process.stdout:
        if line.startswith("trial 0:"):
            break
    while len(found := trials(project)) < 2 or not found[1][1]:
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.fixture(scope="module")
def searched(project_at, tmp_path_factory):
    """A project whose search was killed and continued, without MLflow."""
    project = project_at(tmp_path_factory.mktemp("project"))
    project.configure(digits={"training": {"rounds": 12}})
    kill_in_second_trial(project)
    assert [state for state, _ in trials(project)] == ["COMPLETE", "RUNNING"]
    project.killed = trials(project)[1][1]
    process = project.start(**UNREACHABLE)
    project.output, project.errors = process.communicate()
    assert process.returncode == 0, project.errors
    return project


@pytest.fixture
def here(searched, monkeypatch):
    """The project, as the one whose scripts are run in this process."""
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(command, "ROOT", searched.root)
    return searched


def test_killed_trial_is_run_again(searched):
    found = trials(searched)
    assert [state for state, _ in found] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert found[1][1] == found[2][1] == searched.killed
    assert len({str(values) for _, values in found}) == 3
    assert "1 of 3 trials are there" in searched.output


def test_tables(searched):
    table = pd.read_csv(searched.tables / "trials.csv")
    assert table["state"].tolist() == ["complete"] * 3 + ["fail"]
    complete = table[:3]
    assert complete["accuracy"].is_monotonic_decreasing
    best = YAML(typ="safe").load(searched.tables / "best.yaml")
    assert list(best) == complete["trial"].tolist()
    assert [found["accuracy"] for found in best.values()] == pytest.approx(complete["accuracy"].tolist(), abs=1e-6)
    assert complete["rounds"].eq(12).all()
    assert complete["uplink_bytes"].gt(0).all()
    assert "make tune-apply EXPERIMENT=digits" in searched.output.splitlines()[-1]


def test_figures(searched):
    assert sorted(path.name for path in searched.tables.glob("*.png")) == FIGURES
    for name in FIGURES:
        with Image.open(searched.tables / name) as image:
            assert image.width == 1296


def test_section_of_the_report_shows_each_figure(searched):
    text = (searched.tables / "section.md").read_text()
    assert all(f"](tuning/{name})" in text for name in FIGURES)
    assert "4 trials of 12 rounds" in text
    assert f"|{pd.read_csv(searched.tables / 'trials.csv')['trial'][0]:>8} |" in text


def test_mlflow_out_of_reach_is_said_once(searched):
    assert searched.errors.count("warning: MLflow at nowhere://there") == 1
    assert "Traceback" not in searched.errors


def runs(project):
    """Parent runs and child runs by name."""
    client = connect(project.root).client
    found = client.search_runs([client.get_experiment_by_name("digits-tuning").experiment_id])
    parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    return parents, {run.info.run_name: run for run in found if run not in parents}


def test_again_it_only_shows_and_brings_in_what_mlflow_lacks(here, capsys):
    before, tables = trials(here), {path.name: path.read_bytes() for path in here.tables.iterdir()}
    for _ in range(2):
        tune.main([])
        assert "3 of 3 trials are there" in capsys.readouterr().out
        assert trials(here) == before
        assert {path.name: path.read_bytes() for path in here.tables.iterdir()} == tables
        (parent,), children = runs(here)
        assert sorted(children) == [f"trial {number}" for number in range(4)]
    number, best = next(iter(YAML(typ="safe").load(here.tables / "best.yaml").items()))
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["best.trial"] == str(number)
    assert parent.data.metrics["accuracy"] == pytest.approx(best["accuracy"], abs=1e-6)
    client = connect(here.root).client
    files = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert files == {"trials.csv", "best.yaml", "section.md", *FIGURES}
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parent.info.run_id}
    chosen = children[f"trial {number}"]
    assert (chosen.info.status, children["trial 1"].info.status) == ("FINISHED", "FAILED")
    assert {key: float(value) for key, value in chosen.data.params.items()} == best["values"]
    history = client.get_metric_history(chosen.info.run_id, "validation/accuracy")
    assert [metric.step for metric in history] == list(range(1, 13))
    assert {"validation/bits_left", "validation/loss"} <= chosen.data.metrics.keys()


def test_best_values_are_applied_and_load(here, capsys):
    text = here.file.read_text()
    best = YAML(typ="safe").load(here.tables / "best.yaml")
    try:
        for number, kept in best.items():
            tune_apply.main(["--experiment", "digits", "--trial", str(number)])
            found = load_parameters(here.file).experiment("digits").algorithm("fedmpq")
            assert {"fedmpq.lambda": found.lambda_, "fedmpq.epsilon": found.epsilon} == kept["values"]
        tune_apply.main([])
        capsys.readouterr()
        tune_apply.main([])
        assert "already" in capsys.readouterr().out
        found = load_parameters(here.file).experiment("digits").algorithm("fedmpq")
        assert (found.lambda_, found.epsilon) == tuple(next(iter(best.values()))["values"].values())
        tune.main([])  # the values that are searched do not make it another study
        assert "3 of 3 trials are there" in capsys.readouterr().out
    finally:
        here.file.write_text(text)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "final_rounds=3"], ["final_rounds 2 -> 3", "NEW=1"]),
        (["--set", "alpha=0.1"], ["alpha 0.5 -> 0.1", "NEW=1"]),
        (["--set", "trials"], ["override 'trials'", "KEY=VALUE"]),
        (["--experiment", "digit"], ["'digit'", "digits"]),
        (["--set", "overrides={digits: {partition.min_samples: 40}}"], ["40", "min_samples"]),
    ],
)
def test_what_is_refused_leaves_everything(here, capsys, arguments, said):
    before = trials(here)
    with pytest.raises(SystemExit, match="1"):
        tune.main(arguments)
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert [part for part in said if part not in error] == []
    assert trials(here) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--experiment", "cifar10"], "make tune EXPERIMENT=cifar10"),
        (["--trial", "1"], "--trial 1 is not allowed; allowed: "),
        (["--experiment", "digit"], "unknown experiment 'digit'"),
    ],
)
def test_what_cannot_be_applied(here, capsys, arguments, said):
    before = here.file.read_text()
    with pytest.raises(SystemExit, match="1"):
        tune_apply.main(arguments)
    assert said in capsys.readouterr().err
    assert here.file.read_text() == before


def test_ctrl_c_leaves_the_trial_to_the_next_call(own_project):
    own_project.configure(digits={"training": {"rounds": 100_000}})
    process = own_project.start(**UNREACHABLE)
    assert "0 of 3" in process.stdout.readline()
    while not (found := trials(own_project)) or not found[0][1]:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert trials(own_project)[0][0] == "RUNNING"
