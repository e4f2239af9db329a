"""Search for values of parameters that are best on validation images: reports/<experiment>/tuning/.

What is searched, and how, stands in section `tune` of params.yaml. Killed at any moment, the same command
goes on; once all trials have come to an end, it only shows what was found.
"""

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedmpq.config import parse_overrides
from fedmpq.errors import UserError
from fedmpq.files import replacing, sha256
from fedmpq.tuning.space import Space
from pipeline import command, prepare
from pipeline.train import start_importing

if TYPE_CHECKING:
    import pandas as pd
    from optuna.trial import FrozenTrial

    from fedmpq.tuning.search import Objective
    from fedmpq.tuning.study import Study


@command.entry
def main(arguments: list[str] | None = None) -> None:
    """Search, or go on with it; then show what was found."""
    options = _parser().parse_args(arguments)
    parameters = command.parameters(parse_overrides(options.set, "tune"))
    space = Space(parameters, options.experiment)
    folder = prepared(space)
    # Imported here: they take seconds, and the parameters are checked first.
    from fedmpq.engine.hardware import resolve_device
    from fedmpq.tuning.search import Objective
    from fedmpq.tuning.study import opened

    objective = Objective(space, folder, resolve_device(parameters.execution.device), parameters.execution)
    studies = command.ROOT / "checkpoints" / "tuning" / space.name
    with opened(studies, space, identity(objective), options.new) as study:
        print(f"{space.name}: {study.settled} of {space.tune.trials} trials are there", flush=True)
        if study.left:
            start_importing(parameters)
            run(study, objective)
        publish(study, objective)


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


def prepared(space: Space) -> Path:
    """The folder of the experiment's arrays, made by stage `prepare` if they are not there or of other parameters."""
    folder, data = command.ROOT / "data" / "prepared" / space.name, space.base.data
    meta = json.loads((folder / "meta.json").read_text()) if folder.exists() else {"data": None}
    if meta["data"] != data.source or data.image_size not in (None, meta["image_size"]):
        prepare.main(["--experiment", space.name])
    return folder


def identity(objective: "Objective") -> dict[str, Any]:
    """What all trials of a study have in common, by name: the search, and all else that determines a trial."""
    space, setup = objective.space, objective.setups({})[0]
    searched = {f"tune.search.{key}": str(dimension) for key, dimension in space.search.items()}
    arithmetic = {"device": setup.device.type, "precision as resolved": setup.precision}
    arrays = sha256(*(objective.data / f"train_{kind}.npy" for kind in ("images", "labels")))
    return searched | space.fixed | arithmetic | {"training arrays": arrays[:16]}


def run(study: "Study", objective: "Objective") -> None:
    """Run the trials that are left, with a line and a run in MLflow for each."""
    from fedmpq.engine.method import code_digest
    from fedmpq.tracking.study import log_study
    from fedmpq.tuning.search import search

    space, before, started = study.space, study.settled, time.monotonic()
    code = code_digest(command.ROOT, space.tune.algorithm, space.base.model.network)
    if code != study.optuna.user_attrs.get("code", code):
        print("warning: the code that trains has changed since the last trial; to begin anew: NEW=1", file=sys.stderr)
    study.optuna.set_user_attr("code", code)

    def ended(trial: "FrozenTrial") -> None:
        log_study(command.ROOT, space.name, study.optuna, "RUNNING")
        minutes = (time.monotonic() - started) / 60 / max(1, study.settled - before) * study.left
        print(f"{line(study, trial)}; {study.left} left, about {minutes:.1f} min", flush=True)

    try:
        search(study, objective, ended)
    except BaseException:
        log_study(command.ROOT, space.name, study.optuna, "KILLED")
        raise


def line(study: "Study", trial: "FrozenTrial") -> str:
    """A trial in a line: its values, how it ended, and which one is best so far."""
    values = ", ".join(f"{key} {value}" for key, value in trial.user_attrs.get("values", {}).items())
    summary = trial.user_attrs.get("summary")
    measured = f"accuracy {100 * summary['accuracy']:.1f} % after round {summary['rounds']}" if summary else ""
    end = ", ".join(filter(None, [trial.state.name.lower(), measured, trial.user_attrs.get("reason")]))
    best = f"; best is trial {study.best[0].number}, {100 * study.best[0].values[0]:.1f} %" if study.best else ""
    return f"trial {trial.number}: {values}: {end}{best}"


def publish(study: "Study", objective: "Objective") -> None:
    """Show the best trials; if any trial is not in the tables yet, write them, the figures and the report anew."""
    from fedmpq.reporting import tuning
    from fedmpq.tracking.study import log_study
    from fedmpq.tuning import results

    name, trials = study.space.name, results.table(study)
    folder = command.ROOT / "reports" / name / "tuning"
    if not study.best:
        raise UserError(f"no trial is complete; the last reason: {trials['reason'].iloc[-1]}")
    table = folder / "trials.csv"
    if not table.exists() or table.read_text() != results.as_csv(trials):
        write(study, trials, objective, folder)
    log_study(command.ROOT, name, study.optuna, "FINISHED", [trial.number for trial in study.best], folder.iterdir())
    best = tuning.best_trials(trials, study.space.search).to_markdown(index=False, tablefmt="plain")
    print(f"\n{best}\n\n{tuning.counts(trials)}: {folder}")
    print(f"Use the best values: make tune-apply EXPERIMENT={name}; then `dvc params diff`, and `dvc repro`")


def write(study: "Study", trials: "pd.DataFrame", objective: "Objective", folder: Path) -> None:
    """Write tables, figures and the section of the report into `folder`, all of them or none; renew the report."""
    from fedmpq.engine.hardware import describe
    from fedmpq.reporting import figures, tuning, tuning_figures
    from fedmpq.tuning import results
    from pipeline.report import renew

    space, hardware = study.space, describe(objective.device)
    note = f"{space.name}  ·  {tuning.counts(trials)}  ·  {hardware['processor']}, {hardware['cores']} cores"
    with replacing(folder) as temporary:
        temporary.mkdir()
        drawn = tuning_figures.draw_all(study.optuna, trials, space.search, note)
        for title, figure in drawn.items():
            figures.save(figure, temporary / f"{title}.png")
        (temporary / "section.md").write_text(tuning.as_markdown(trials, space.search, space.fixed, drawn))
        results.write_best(study, temporary / "best.yaml")
        (temporary / "trials.csv").write_text(results.as_csv(trials))
    renew(space.parameters)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        # An exception that Optuna does not catch: the trial that runs is left to the next call.
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    main()
