"""Search for values of parameters that are best on validation images: reports/<experiment>/tuning/.

What is searched, and how, stands in section `tune` of params.yaml. Killed at any moment, the same command
goes on; once all trials have come to an end, it only shows what was found.
"""

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
from optuna.trial import FrozenTrial

from fedmpq.config import parse_overrides
from fedmpq.engine import processes
from fedmpq.engine.hardware import describe, resolve_device
from fedmpq.engine.inputs import arrays
from fedmpq.engine.method import code_digest
from fedmpq.errors import UserError
from fedmpq.files import replacing, sha256
from fedmpq.reporting import tuning
from fedmpq.tracking.study import log_study
from fedmpq.tuning.search import Objective, search
from fedmpq.tuning.space import Space
from fedmpq.tuning.study import Study, opened, table, write_best
from pipeline import command


@command.entry
def main(arguments: list[str] | None = None) -> None:
    """Search, or go on with it; then show what was found."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.tune", description=__doc__)
    parser.add_argument("--experiment", metavar="NAME", help="a section of params.yaml (default: tune.experiment)")
    parser.add_argument("--new", action="store_true", help="begin a new study; an earlier one is kept but not used")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override, e.g. trials=30")
    options = parser.parse_args(arguments)
    parameters = command.parameters(parse_overrides(options.set, "tune"))
    space = Space(parameters, options.experiment)
    objective = Objective(space, arrays(command.ROOT, space.name, space.base.data), parameters.execution)
    studies = command.ROOT / "checkpoints" / "tuning" / space.name
    with opened(studies, space, identity(objective), options.new) as study:
        print(f"{space.name}: {study.settled} of {space.tune.trials} trials are there", flush=True)
        if study.left:
            if parameters.execution.executor == "processes":
                processes.start_importing()
            run(study, objective)
        publish(study)


def identity(objective: Objective) -> dict[str, Any]:
    """What all trials of a study have in common, by name: the search, and all else that determines a trial."""
    space, setup = objective.space, objective.setups({})[0]
    searched = {f"tune.search.{key}": str(dimension) for key, dimension in space.search.items()}
    arithmetic = {"device": setup.device.type, "precision as resolved": setup.precision}
    digest = sha256(*(objective.data / f"train_{kind}.npy" for kind in ("images", "labels")))
    return searched | space.fixed | arithmetic | {"training arrays": digest[:16]}


def run(study: Study, objective: Objective) -> None:
    """Run the trials that are left, with a line and a run in MLflow for each."""
    space, before, started = study.space, study.settled, time.monotonic()
    code = code_digest(space.base.algorithm(space.tune.algorithm).of, space.base.model.network)
    if code != study.optuna.user_attrs.get("code", code):
        print("warning: the code that trains has changed since the last trial; to begin anew: NEW=1", file=sys.stderr)
    study.optuna.set_user_attr("code", code)

    def ended(trial: FrozenTrial) -> None:
        log_study(command.ROOT, space.name, study.optuna)
        found, minutes = trial.user_attrs, (time.monotonic() - started) / 60 / max(1, study.settled - before)
        accuracy = "accuracy {accuracy:.1%}".format_map(found["summary"]) if found.get("summary") else ""
        end = f"{trial.state.name.lower()} {accuracy} {found.get('reason', '')}".strip()
        best = "".join(f"; best: trial {trial.number}, {trial.values[0]:.1%}" for trial in study.ranked[:1])
        left = f"{study.left} left, about {minutes * study.left:.1f} min"
        print(f"trial {trial.number}: {found.get('values')}: {end}{best}; {left}", flush=True)

    search(study, objective, ended)


def publish(study: Study) -> None:
    """Show the best trials; if any trial is not in trials.csv yet, write tables, figures and the report anew."""
    name, trials = study.space.name, table(study)
    folder = command.ROOT / "reports" / name / "tuning"
    if not study.ranked:
        raise UserError(f"no trial is complete; the last reason: {trials['reason'].iloc[-1]}")
    written, content = folder / "trials.csv", trials.to_csv(index=False, float_format="%.8g")
    if not written.exists() or written.read_text() != content:
        with replacing(folder) as temporary:
            write(study, trials, temporary)
            (temporary / "trials.csv").write_text(content)
        from pipeline.report import renew  # only where it is needed: it takes seconds

        renew(study.space.parameters)
    log_study(command.ROOT, name, study.optuna, study.ranked[0].number, folder.iterdir())
    best = tuning.best_trials(trials, study.space.search, tablefmt="plain")
    print(f"\n{best}\n\n{trials['state'].value_counts().to_dict()}: {folder}")
    print(f"Use the best values: make tune-apply EXPERIMENT={name}; then `dvc params diff`, and `dvc repro`")


def write(study: Study, trials: pd.DataFrame, folder: Path) -> None:
    """Write the best values, figures and the section of the report into `folder`."""
    from fedmpq.reporting import figures, tuning_figures

    space = study.space
    hardware = describe(resolve_device(space.parameters.execution.device))
    note = tuning.footer(space.name, space.fixed, len(trials), hardware)
    folder.mkdir()
    drawn = tuning_figures.draw_all(study.optuna, trials, space.search, note)
    for title, figure in drawn.items():
        figures.save(figure, folder / f"{title}.png")
    (folder / "section.md").write_text(tuning.as_markdown(trials, space.search, space.fixed, drawn))
    write_best(study, folder / "best.yaml")


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        # An exception that Optuna does not catch: the trial that runs is left to the next call.
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    main()
