"""The page of MLflow that an experiment opens on: charts of its runs, means over seeds, accuracy over rounds first."""

import json
from pathlib import Path

from fedmpq.tracking.connection import connect

KEY = "fedmpq"
TAG = f"mlflow.sharedViewState.{KEY}"
"""The tag of an experiment in which MLflow's pages look for a view that was saved under KEY."""
PAGE = "#/experiments/{id}/runs?workflowType=machine_learning&compareRunsMode=CHART"
NAME = "attributes.`Run Name`"
COLUMNS = ["params.`algorithm`", "params.`alpha`", "metrics.`accuracy/final`", "metrics.`bits/left`"]
CELL = [{"mode": "param", "groupByData": name} for name in ("algorithm", "alpha")]


def view(experiment: str) -> str:
    """The value of TAG. What it leaves out, all other charts among it, is as MLflow has it."""
    tuning = experiment.endswith("-tuning")
    measured = "validation" if tuning else "test"
    chart = {"type": "LINE", "metricSectionId": measured, "lineSmoothness": 0}
    state = {
        "orderByKey": "tags.`mlflow.runName`",
        "orderByAsc": True,
        "runsHiddenMode": "SHOW_ALL",  # not the ten newest
        "groupBy": None if tuning else {"aggregateFunction": "average", "groupByKeys": CELL},
        "selectedColumns": COLUMNS,
        "columnOrder": [NAME, *COLUMNS],
        "columnWidths": {NAME: 280},
        "isAccordionReordered": True,  # or sections stand in alphabetical order
        "compareRunSections": [{"uuid": measured, "name": measured, "display": True, "isReordered": True}],
        "compareRunCharts": [
            {**chart, "uuid": name, "metricKey": name} for name in (f"{measured}/accuracy", f"{measured}/loss")
        ],
    }
    return json.dumps({"name": "All runs", "createdAt": 0, "state": json.dumps(state)})


def links(root: Path, address: str) -> str:
    """The page that compares the runs of an experiment, for each experiment of the server at `address`, one a line.

    Raises:
        UserError: MLflow cannot be used.
    """
    with connect(root).required() as client:
        found = client.search_experiments(filter_string="name != 'Default'", order_by=["name"])
    width, pages = max((len(one.name) for one in found), default=0), []
    for one in found:
        view = f"&viewStateShareKey={KEY}" if TAG in one.tags else ""
        pages.append(f"{one.name:{width}}  {address}/{PAGE.format(id=one.experiment_id)}{view}")
    return "\n".join(pages) or f"MLflow is empty (train with `make repro`): {address}"
