"""The pages of MLflow that compare an experiment's runs: charts of means over seeds, accuracy over rounds first."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fedmpq.tracking.connection import connect

if TYPE_CHECKING:
    from mlflow.entities import Experiment

KEY = "fedmpq"
TAG = f"mlflow.sharedViewState.{KEY}"
"""Begins the tags of an experiment in which MLflow's pages look for views saved under KEY and KEY-ALPHA."""
PAGE = "#/experiments/{id}/runs?workflowType=machine_learning&compareRunsMode=CHART"
NAME = "attributes.`Run Name`"
COLUMNS = ["params.`algorithm`", "params.`alpha`", "metrics.`accuracy/final`", "metrics.`bits/left`"]
SIZE = {"columns": 2, "cardHeight": 560}  # charts a row, and the height of one in pixels


def view(experiment: str, alpha: str | None = None) -> tuple[str, str]:
    """Tag and value that save the page of an experiment, or of its runs at one `alpha`.

    What it leaves out, all other charts among it, is as MLflow has it.
    """
    tuning = experiment.endswith("-tuning")
    measured, groups = ("validation", []) if tuning else ("test", ["algorithm", *([] if alpha else ["alpha"])])
    keys = [{"mode": "param", "groupByData": name} for name in groups]
    chart = {"type": "LINE", "metricSectionId": measured, "lineSmoothness": 0}
    state = {
        "orderByKey": "tags.`mlflow.runName`",
        "orderByAsc": True,
        "runsHiddenMode": "SHOW_ALL",  # not the ten newest
        "searchFilter": f'params.alpha = "{alpha}"' if alpha else "",
        "groupBy": {"aggregateFunction": "average", "groupByKeys": keys} if keys else None,
        "selectedColumns": COLUMNS,
        "columnOrder": [NAME, *COLUMNS],
        "columnWidths": {NAME: 280},
        "isAccordionReordered": True,  # or sections stand in alphabetical order
        "compareRunSections": [{"uuid": measured, "name": measured, "display": True, "isReordered": True, **SIZE}],
        "compareRunCharts": [
            {**chart, "uuid": name, "metricKey": name} for name in (f"{measured}/accuracy", f"{measured}/loss")
        ],
    }
    name = f"alpha {alpha}" if alpha else "All runs"
    saved = {"name": name, "createdAt": 0, "state": json.dumps(state)}
    return f"{TAG}-{alpha}" if alpha else TAG, json.dumps(saved)


def links(root: Path, address: str) -> str:
    """The pages that compare runs of an experiment, all and those of one alpha, of the server at `address`, one a line.

    Raises:
        UserError: MLflow cannot be used.
    """
    with connect(root).required() as client:
        found = client.search_experiments(filter_string="name != 'Default'", order_by=["name"])
    pages = [(title, f"{address}/{page}") for one in found for title, page in _pages(one)]
    width = max((len(title) for title, _ in pages), default=0)
    lines = [f"{title:{width}}  {page}" for title, page in pages]
    return "\n".join(lines) or f"MLflow is empty (train with `make repro`): {address}"


def _pages(experiment: "Experiment") -> Iterator[tuple[str, str]]:
    """Title and address of each page of an experiment, which has no view where another program made it."""
    name, page = experiment.name, PAGE.format(id=experiment.experiment_id)
    views = sorted(tag.removeprefix(TAG) for tag in experiment.tags if tag.startswith(TAG))
    for one in views:
        yield name + one.replace("-", ", alpha ", 1), f"{page}&viewStateShareKey={KEY}{one}"
    if not views:
        yield name, page
