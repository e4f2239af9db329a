import json
import shutil
import socket
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from fedmpq import tracking
from pipeline import command, ui


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(command, "ROOT", tmp_path)
    return tmp_path


def a_run(project):
    cell = {"experiment": "digits", "algorithm": "fedmpq", "alpha": "0.5", "seed": 0}
    with tracking.Run.start(project, **cell, parameters={}) as run:
        run.log_round({"test/accuracy": 0.5}, 1)


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
    assert "allowed: 1 to 65535" in capsys.readouterr().err


def test_links_lead_to_the_comparison_of_runs(project, migrated):
    shutil.copy(migrated, project / "mlflow.db")
    assert "MLflow is empty" in ui.links("http://host")
    a_run(project)
    identifier = tracking.experiments(project)["digits"]
    assert ui.links("http://host") == (
        f"digits  http://host/#/experiments/{identifier}/runs?workflowType=machine_learning&compareRunsMode=CHART"
    )


def test_replay_only_serves_nothing(project, migrated, capsys):
    shutil.copy(migrated, project / "mlflow.db")
    ui.main(["--replay-only"])
    assert capsys.readouterr().out == "runs brought into MLflow from results/: none was missing\n"


def test_the_server_shows_the_runs_and_ends_with_the_block(project, migrated):
    shutil.copy(migrated, project / "mlflow.db")
    a_run(project)
    port, uri = free_port(), tracking.tracking_uri(project)
    request = Request(
        f"http://{ui.HOST}:{port}/ajax-api/2.0/mlflow/runs/search",
        data=json.dumps({"experiment_ids": [tracking.experiments(project)["digits"]]}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with ui._server(uri, port) as server, build_opener(ProxyHandler({})).open(request) as answer:
        assert json.load(answer)["runs"][0]["info"]["run_name"] == "fedmpq alpha=0.5 seed=0"
    assert server.poll() is not None
    ui.check_port(port)  # free again
