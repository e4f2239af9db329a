"""Bring results that are on disk into MLflow, and tie runs to the results that were written from them."""

import sys
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pandas as pd

from fedmpq.engine.results import BITS, ROUNDS, read_run, read_table
from fedmpq.errors import UserError
from fedmpq.files import sha256
from fedmpq.tracking.connection import Connection, connect
from fedmpq.tracking.metrics import Training, round_metrics, summary_metrics
from fedmpq.tracking.run import SEAL, Round, experiment_of, join, log_rounds, rounds_held

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COMMIT = "mlflow.source.git.commit"
BitsFigure = Callable[[pd.DataFrame], "Figure"]
"""Draws the rows of bits.csv of one seed."""


def seal(root: Path, folder: Path, figure: BitsFigure | None = None) -> None:
    """Give the runs of a cell what they lack of its results, and the digest by which `replay` knows them.

    Args:
        root: folder of params.yaml.
        folder: results/<experiment>/<algorithm>/alpha-<alpha>/, which holds the results of all seeds.
        figure: draws the bit allocation of a run; None: no picture.
    """
    connection = connect(root)
    with ThreadPoolExecutor(1) as artist:
        connection.attempt(lambda _: _bring(connection, folder, figure, artist), urgent=True)


def replay(results: Path, root: Path, figure: BitsFigure | None = None, artist: Executor | None = None) -> list[str]:
    """Bring into MLflow what is in results/ and not yet there, one run a seed; running it again changes nothing.

    A run that a training left unfinished is completed. One that was deleted in MLflow stays deleted.

    Args:
        results: the folder.
        root: folder of params.yaml.
        figure: as in `seal`.
        artist: draws while runs are logged, and is shut down in the end; None: a thread, which saves no time.

    Returns:
        Names of the runs brought in.

    Raises:
        UserError: MLflow cannot be used.
    """
    connection, brought = connect(root), []
    with artist or ThreadPoolExecutor(1) as artist, connection.required():
        for path in sorted(results.glob("*/*/alpha-*/run.json")):
            try:
                brought += _bring(connection, path.parent, figure, artist)
            except UserError as error:
                print(f"warning: {error}", file=sys.stderr)
    return brought


def _bring(connection: Connection, folder: Path, figure: BitsFigure | None, artist: Executor) -> list[str]:
    """Bring in the seeds of a cell that are not there; returns their names."""
    from mlflow.entities import ViewType

    record, files = read_run(folder), [folder / name for name in ("run.json", "rounds.csv", "bits.csv")]
    digest, experiment_id = sha256(*filter(Path.exists, files)), experiment_of(connection, record["experiment"])
    tied = f"tags.`{SEAL}` = '{digest}'"
    runs = connection.client.search_runs([experiment_id], tied, ViewType.ALL)
    missing = [seed for seed in record["seeds"] if str(seed) not in {run.data.tags.get("seed") for run in runs}]
    for seed in missing:
        run_id = _bring_seed(connection, folder, record, seed, figure, artist)
        connection.client.set_tag(run_id, SEAL, digest)  # last: an interrupted run counts as not brought in
    return [f"{record['experiment']}: {record['algorithm']} {folder.name} seed {seed}" for seed in missing]


def _bring_seed(
    connection: Connection,
    folder: Path,
    record: dict[str, Any],
    seed: int,
    figure: BitsFigure | None,
    artist: Executor,
) -> str:
    tables = read_table(folder / "rounds.csv", ROUNDS), read_table(folder / "bits.csv", BITS)
    rounds, bits = (table[table["seed"] == seed].sort_values("round", kind="stable") for table in tables)
    picture = figure and artist.submit(_drawn, figure, bits)
    end_ms = int((folder / "run.json").stat().st_mtime * 1000)
    start_ms = end_ms - int(1000 * rounds["seconds"].sum())  # had it been the last to end
    client, run = connection.client, join(connection, _training(folder, record, seed), start_ms)
    log_rounds(client, run.run_id, _rounds(rounds, bits, start_ms), rounds_held(client, run.run_id))
    log_rounds(client, run.run_id, [(0, end_ms, summary_metrics(record, seed))])  # MLflow draws bars of step 0
    client.log_text(run.run_id, rounds.to_csv(index=False), "rounds.csv")
    client.log_text(run.run_id, bits.to_csv(index=False), "bits.csv")
    if picture:
        with TemporaryDirectory() as temporary:
            (path := Path(temporary, "bits.png")).write_bytes(picture.result())
            client.log_artifact(run.run_id, str(path))
    if record["commit"]:
        client.set_tag(run.run_id, COMMIT, record["commit"])
    if run.status != "FINISHED":
        client.set_terminated(run.run_id, "FINISHED", end_ms)
    return run.run_id


def _drawn(figure: BitsFigure, bits: pd.DataFrame) -> bytes:
    """As PNG. `Figure.savefig` would draw it twice."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure(bits)).print_png(content := BytesIO())
    return content.getvalue()


def _training(folder: Path, record: dict[str, Any], seed: int) -> Training:
    label = folder.name.removeprefix("alpha-") if folder.name.startswith("alpha-") else f"{record['alpha']:g}"
    names = record["experiment"], record["algorithm"], label, seed
    return Training(*names, record["parameters"], record["partition"][f"seed-{seed}"], record["fingerprint"])


def _rounds(rounds: pd.DataFrame, bits: pd.DataFrame, start_ms: int) -> list[Round]:
    times, layers = start_ms + 1000 * rounds["seconds"].cumsum(), defaultdict(list)
    for row in bits.to_dict("records"):
        layers[row["round"]].append(row)
    return [
        (row["round"], int(time), round_metrics(row, layers[row["round"]]))
        for row, time in zip(rounds.to_dict("records"), times, strict=True)
    ]
