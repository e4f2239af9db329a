import json
import shutil
import socket
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from fedmpq import tracking
from pipeline import command, ui

RESULTS = Path(__file__).parents[2] / "results/cifar10-ablation"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a path that an address cannot hold as it is."""
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    project = tmp_path / "50% #1? é"
    project.mkdir()
    monkeypatch.setattr(command, "ROOT", project)
    return project


def training(seed=0):
    return tracking.Training("digits", "fedmpq", "0.5", seed, {}, fingerprint="f" * 64)


def free_port():
    with socket.create_server((ui.HOST, 0)) as server:
        return server.getsockname()[1]


def test_a_port_in_use_is_refused(project, capsys):
    with socket.create_server((ui.HOST, 0)) as server, pytest.raises(SystemExit) as stop:
        ui.main(["--port", str(server.getsockname()[1])])
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: port ")
    assert "--port" in error


@pytest.mark.parametrize("port", ["0", "65536", "-1"])
def test_what_is_no_port_is_refused(project, capsys, port):
    with pytest.raises(SystemExit):
        ui.main(["--port", port])
    assert "from 1 to 65535" in capsys.readouterr().err


def test_links_lead_to_the_comparison_of_all_runs(project, migrated):
    shutil.copy(migrated, project / "mlflow.db")
    assert "MLflow is empty" in tracking.links(project, "http://host")
    client = tracking.connect(project).client
    client.create_experiment("another program's")
    with tracking.Run(project, training()):
        pass
    page = "http://host/#/experiments/{}/runs?workflowType=machine_learning&compareRunsMode=CHART"
    assert tracking.links(project, "http://host").splitlines() == [
        f"another program's  {page.format(1)}",
        f"digits             {page.format(2)}&viewStateShareKey=fedmpq",
        f"digits, alpha 0.5  {page.format(2)}&viewStateShareKey=fedmpq-0.5",
    ]


@pytest.mark.parametrize(("experiment", "measured"), [("digits", "test"), ("digits-tuning", "validation")])
def test_the_page_of_an_experiment_shows_all_runs_by_their_accuracy(project, migrated, experiment, measured):
    shutil.copy(migrated, project / "mlflow.db")
    connection = tracking.connect(project)
    for _ in ("made", "found"):
        identifier = tracking.run.experiment_of(connection, experiment)
    saved = json.loads(connection.client.get_experiment(identifier).tags["mlflow.sharedViewState.fedmpq"])
    state = json.loads(saved["state"])
    assert state["runsHiddenMode"] == "SHOW_ALL"
    assert state["compareRunCharts"][0]["metricKey"] == f"{measured}/accuracy"
    assert state["compareRunSections"][0]["uuid"] == state["compareRunCharts"][0]["metricSectionId"]
    assert state["selectedColumns"][:2] == ["params.`algorithm`", "params.`alpha`"]


def test_the_page_of_an_alpha_compares_its_algorithms(project, migrated):
    shutil.copy(migrated, project / "mlflow.db")
    with tracking.Run(project, training()):
        pass
    tags = tracking.connect(project).client.get_experiment_by_name("digits").tags
    state = json.loads(json.loads(tags["mlflow.sharedViewState.fedmpq-0.5"])["state"])
    assert state["searchFilter"] == 'params.alpha = "0.5"'
    assert [key["groupByData"] for key in state["groupBy"]["groupByKeys"]] == ["algorithm"]


def test_replay_only_serves_nothing(project, migrated, capsys):
    shutil.copy(migrated, project / "mlflow.db")
    ui.main(["--replay-only"])
    assert capsys.readouterr().out == "runs brought into MLflow from results/: none was missing\n"


def test_results_come_with_a_picture_of_their_bits(project, migrated, capsys):
    shutil.copy(migrated, project / "mlflow.db")
    shutil.copytree(RESULTS / "aqfl/alpha-0.5", project / "results/cifar10-ablation/aqfl/alpha-0.5")
    ui.main(["--replay-only"])
    assert capsys.readouterr().out == "runs brought into MLflow from results/: 3\n"
    pictures = {path.read_bytes() for path in project.glob("mlartifacts/cifar10-ablation/*/artifacts/bits.png")}
    assert [content[:4] for content in pictures] == [b"\x89PNG"]  # AQFL gives every seed the same bits.


def test_a_server_shows_the_runs_and_takes_what_was_missed_before_it_was_there(
    project, migrated, monkeypatch, capfd, tmp_path
):
    shutil.copy(migrated, project / "mlflow.db")
    (project / "weights.pt").write_bytes(b"weights")
    with tracking.Run(project, training()) as run:
        run.log_file(project / "weights.pt")
    port, uri = free_port(), tracking.connect(project).uri
    monkeypatch.setenv("NO_PROXY", ui.HOST)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{ui.HOST}:{port}")
    missed = tracking.Run(project, training(seed=1))
    missed.log_round({"test/accuracy": 0.1}, 1)
    with ui._server(uri, port) as server:
        with missed:
            missed.log_round({"test/accuracy": 0.2}, 2)
        first, second = runs_on(port)
        assert get(port, "get-artifact", path="weights.pt", run_uuid=first["info"]["run_id"]) == b"weights"
        history = get(
            port, "ajax-api/2.0/mlflow/metrics/get-history", metric_key="test/accuracy", run_id=second["info"]["run_id"]
        )
        assert [metric["step"] for metric in json.loads(history)["metrics"]] == [1, 2]
        assert second["info"]["status"] == "FINISHED"
    assert server.poll() is not None
    ui.check_port(port)  # free again
    assert [path.name for path in tmp_path.iterdir()] == [project.name]
    err = capfd.readouterr().err
    assert err.startswith(f"warning: MLflow at http://{ui.HOST}:{port} cannot be used ([Errno 111] Connection refused)")
    assert err.count("\n") == 1


def get(port, page, data=None, **query):
    address = f"http://{ui.HOST}:{port}/{page}?{urlencode(query)}"
    request = Request(address, data=data and json.dumps(data).encode(), headers={"Content-Type": "application/json"})
    with build_opener(ProxyHandler({})).open(request) as answer:
        return answer.read()


def runs_on(port):
    """What the pages show, by name of the run."""
    found = json.loads(get(port, "ajax-api/2.0/mlflow/runs/search", {"experiment_ids": ["1"]}))["runs"]
    return sorted(found, key=lambda run: run["info"]["run_name"])
