import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from fedmpq import tracking
from fedmpq.tracking.connection import connect


@pytest.mark.parametrize(
    "name", ["%", "100% a%20b", "#", "x#y", "really? a=b&c", "é ü 数", "a;b:c@d", '[x] {y} it\'s "z"']
)
def test_any_sign_may_stand_in_the_path_of_a_project(bare, migrated, cell, capfd, name):
    project = bare / name / "project"
    project.mkdir(parents=True)
    shutil.copy(migrated, project / "mlflow.db")
    with cell.start(project) as run:
        cell.log(run)
    tracking.seal(project, cell.results(project, seeds=[0]))
    (found,) = cell.runs(project)
    assert len(cell.history(project, found)["test/accuracy"]) == 3
    files = cell.artifacts(project, found)
    assert files["rounds.csv"].is_relative_to(project / "mlartifacts" / "digits")
    assert set(files) == {file.path for file in connect(project).client.list_artifacts(found.info.run_id)}
    assert capfd.readouterr().err == ""
    assert list(bare.iterdir()) == [bare / name]


@pytest.fixture
def project(bare, migrated, cell):
    """A project with the run of seed 0, artifacts among it, in a folder of its own."""
    project = bare / "first" / "project"
    project.mkdir(parents=True)
    shutil.copy(migrated, project / "mlflow.db")
    with cell.start(project) as run:
        cell.log(run)
    tracking.seal(project, cell.results(project, seeds=[0]))
    return project


def artifact_folders(place, cell):
    """Log the run of seed 1 in `place`; returns the folders of the artifacts of both runs."""
    file = place / "params.yaml"
    file.touch()
    with cell.start(place, seed=1) as run:
        run.log_file(file)
    files = [cell.artifacts(place, run) for run in cell.runs(place)]
    assert [set(names) for names in files] == [{"rounds.csv", "bits.csv"}, {"params.yaml"}]
    return [Path(os.path.commonpath(names.values())) for names in files]


def all_below(folder, paths):
    return all(path.is_relative_to(folder) for path in paths)


@pytest.mark.parametrize("way", [shutil.move, shutil.copytree])
@pytest.mark.parametrize("name", ["second", "é 100% #2"])
def test_artifacts_are_where_the_database_is(project, cell, capfd, way, name):
    place = project.parent.parent / name / "project"
    place.parent.mkdir(exist_ok=True)
    way(project, place)
    before = sorted(project.rglob("*"))
    assert all_below(place / "mlartifacts", artifact_folders(place, cell))
    assert sorted(project.rglob("*")) == before
    assert project.exists() == (way is shutil.copytree)
    assert capfd.readouterr().err == ""


def test_a_copy_leaves_the_original_as_it_was(project, cell):
    shutil.copytree(project, project.parent / "copy")
    for place in (project.parent / "copy", project):
        assert all_below(place / "mlartifacts", artifact_folders(place, cell))


@pytest.mark.parametrize("old", ["/proc/1/nowhere", "/dev/null/below", "/C:/Users/me"])
def test_a_place_that_cannot_be_made_here_is_not_needed(project, cell, capfd, another_process, old):
    with sqlite3.connect(project / "mlflow.db") as database:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            uris = (project.as_uri(), f"file://{old}")
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", uris)
    another_process()
    assert all_below(project / "mlartifacts", artifact_folders(project, cell))
    assert capfd.readouterr().err == ""


def test_artifacts_of_another_kind_stay_where_they_are(project):
    elsewhere = ["s3://bucket/mlartifacts/digits", "mlflow-artifacts:/1", "file:///data/mine"]
    client = connect(project).client
    ids = [client.create_experiment(f"e{n}", artifact_location=uri) for n, uri in enumerate(elsewhere)]
    shutil.move(project, project.parent / "second")
    moved = connect(project.parent / "second").client
    assert [moved.get_experiment(identifier).artifact_location for identifier in ids] == elsewhere


def test_a_database_named_by_its_address_takes_its_artifacts_along(project, cell, monkeypatch):
    place, other = project.parent / "shared", project.parent / "other"
    shutil.move(project, place)
    other.mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlflow.db")
    assert all_below(place / "mlartifacts", artifact_folders(other, cell))
    assert [path.name for path in other.iterdir()] == ["params.yaml"]
