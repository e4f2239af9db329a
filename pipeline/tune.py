"""Search for values of parameters that are best on validation images: reports/<experiment>/tuning/.

What is searched, and how, stands in section `tune` of params.yaml. Killed at any moment, the same command
goes on; once all trials have come to an end, it only shows what was found.
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from fedmpq.config import Experiment, Parameters, parse_overrides
from fedmpq.files import sha256
from fedmpq.tuning.space import Space
from pipeline import command, prepare
from pipeline.train import start_importing
from pipeline.tuned import log_trials, logged, publish

if TYPE_CHECKING:
    from fedmpq.tracking.study import StudyLog
    from fedmpq.tuning.study import Study
    from fedmpq.tuning.trial import Plan


@command.entry
def main(arguments: list[str] | None = None) -> None:
    """Search, or go on with it; then show what was found."""
    options = _parser().parse_args(arguments)
    parameters = command.parameters(parse_overrides(options.set, "tune"))
    name = options.experiment or (parameters.tune and parameters.tune.experiment)
    space = Space(parameters, name)
    start_importing(parameters)
    folder = prepared(name, space.base)
    # Imported here: the parameters are checked, and the workers import too, while this takes seconds.
    from fedmpq.tuning.study import opened
    from fedmpq.tuning.trial import Plan

    plan = Plan.of(folder, space.tune.algorithm, space.tune.alpha, parameters.execution.device)
    setups = plan.setups(space.base)
    images = f"{len(setups[0].held_out):,} validation and {len(setups[0].partition.indices):,} training images"
    studies = command.ROOT / "checkpoints" / "tuning" / name
    with terminable(), opened(studies, space, identity(plan, space, setups[0].precision), options.new) as study:
        print(f"{name}: {study.settled} of {space.tune.trials} trials are there; {images}", flush=True)
        warn_of_other_code(study)
        with logged(study) as log:
            search(study, plan, parameters, log)
            publish(study, plan, parameters, log)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.tune",
        description=__doc__,
        epilog="example: python -m pipeline.tune --experiment cifar10 --set trials=30 --set workers=2",
    )
    parser.add_argument("--experiment", metavar="NAME", help="a section of params.yaml (default: tune.experiment)")
    parser.add_argument("--new", action="store_true", help="begin a new study; an earlier one is kept but not used")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a parameter of section tune"
    )
    return parser


def prepared(name: str, experiment: Experiment) -> Path:
    """The folder of the experiment's arrays, made by stage `prepare` if they are not there or of other parameters."""
    folder = command.ROOT / "data" / "prepared" / name
    try:
        meta = json.loads((folder / "meta.json").read_text())
        fits = meta["data"] == experiment.data and experiment.image_size in (None, meta["image_size"])
    except (OSError, ValueError, KeyError, TypeError):
        fits = False
    if not fits:
        prepare.main(["--experiment", name])
    return folder


def identity(plan: "Plan", space: Space, precision: str) -> dict[str, Any]:
    """What all trials of a study have in common, by name: the search, and all else that determines a trial."""
    searched = {f"tune.search.{key}": str(dimension) for key, dimension in space.search.items()}
    arrays = sha256(*(plan.data / f"train_{kind}.npy" for kind in ("images", "labels")))
    arithmetic = {"device": plan.device.type, "precision as resolved": precision}
    return searched | space.fixed | arithmetic | {"training arrays": arrays[:16]}


def warn_of_other_code(study: "Study") -> None:
    """Say so where earlier trials were trained by other code than the next ones will be."""
    from fedmpq.engine.training import code_files

    digest = sha256(*code_files(study.space.base.model))
    if not study.settled:
        study.remember("code", digest)
    elif study.recall("code") != digest:
        said = "the code that trains has changed since this study was begun: its trials may differ from new ones"
        print(f"warning: {said}; a new study: make tune EXPERIMENT={study.space.name} NEW=1", file=sys.stderr)


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does."""

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def search(study: "Study", plan: "Plan", parameters: Parameters, log: "StudyLog") -> None:
    """Run the trials that are left, with a line and a run in MLflow for each."""
    from fedmpq.tuning.lanes import build_lanes
    from fedmpq.tuning.sweep import sweep

    if not study.left:
        return
    before, started = study.settled, time.monotonic()

    def ended(number: int) -> None:
        log_trials(study, log)
        left = study.left + len(study.running)
        minutes = (time.monotonic() - started) / (study.settled - before) * left / 60
        print(f"{line(study, number)}; {left} left{f', about {minutes:.1f} min' if left else ''}", flush=True)

    sweep(study, build_lanes(plan, parameters.execution, study.space.tune.workers), ended)


def line(study: "Study", number: int) -> str:
    """A trial in a line: its values, how it ended, and which one is best so far."""
    from fedmpq.tuning import results

    trial = next(trial for trial in study.trials if trial.number == number)
    row = results.row(study, trial)
    values = ", ".join(f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
                       for key, value in results.values(trial).items())  # fmt: skip
    outcome = {
        "complete": lambda: f"accuracy {100 * row['accuracy']:.1f} %",
        "pruned": lambda: f"given up after round {row['rounds']}, accuracy {100 * row['accuracy']:.1f} %",
        "failed": lambda: f"failed: {row['reason']}",
    }[row["state"]]()
    best = f"; best is trial {study.best[0].number}, {100 * study.best[0].values[0]:.1f} %" if study.best else ""
    return f"trial {number}: {values}: {outcome}{best}"


if __name__ == "__main__":
    main()
