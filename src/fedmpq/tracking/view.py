"""The page of MLflow that an experiment opens on: charts of all its runs, accuracy over rounds first."""

import json
from pathlib import Path

from fedmpq.tracking.connection import connect

KEY = "fedmpq"
TAG = f"mlflow.sharedViewState.{KEY}"
"""The tag of an experiment in which MLflow's pages look for a view that was saved under KEY."""
PAGE = "#/experiments/{id}/runs?workflowType=machine_learning&compareRunsMode=CHART"
SECTIONS = ("test", "accuracy", "bits")
CHARTS = {"test/accuracy": "LINE", "test/loss": "LINE", "accuracy/final": "BAR", "bits/left": "BAR"}
STATE = {
    "orderByKey": "tags.`mlflow.runName`",
    "orderByAsc": True,
    "runsHiddenMode": "SHOW_ALL",  # not the ten newest
    "selectedColumns": ["params.`algorithm`", "params.`alpha`", "metrics.`accuracy/final`", "metrics.`bits/left`"],
    "isAccordionReordered": True,  # or sections stand in alphabetical order
    "compareRunSections": [{"uuid": name, "name": name, "display": True, "isReordered": True} for name in SECTIONS],
    "compareRunCharts": [
        {"uuid": name, "metricKey": name, "type": kind, "metricSectionId": name.split("/")[0], "lineSmoothness": 0}
        for name, kind in CHARTS.items()
    ],
}
"""Of the page; what is left out, all other charts among it, is as it would be."""
VIEW = json.dumps({"name": "All runs", "createdAt": 0, "state": json.dumps(STATE)})


def pages(root: Path) -> dict[str, str]:
    """The page that compares the runs of each experiment in MLflow, below the server's address, by name.

    Raises:
        UserError: MLflow cannot be used.
    """
    with connect(root).required() as client:
        found = [experiment for experiment in client.search_experiments() if experiment.name != "Default"]
    views = {one.name: f"&viewStateShareKey={KEY}" if TAG in one.tags else "" for one in found}
    return {one.name: PAGE.format(id=one.experiment_id) + views[one.name] for one in found}
