"""What becomes of a search: its runs in MLflow, its tables and figures, its section of the report."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fedmpq.config import Parameters
from fedmpq.errors import UserError
from fedmpq.files import replacing
from pipeline import command

if TYPE_CHECKING:
    from fedmpq.tracking.study import StudyLog
    from fedmpq.tuning.study import Study
    from fedmpq.tuning.trial import Plan


@contextmanager
def logged(study: "Study") -> Iterator["StudyLog"]:
    """The runs of `study` in MLflow; brings in trials that are missing there, and ends the parent run."""
    from fedmpq.tracking.study import StudyLog

    space = study.space
    log = StudyLog(command.ROOT, space.name, study.recall("run_id"))
    tags = {"algorithm": space.tune.algorithm, "alpha": f"{space.tune.alpha:g}", "objective": space.tune.objective}
    searched = {f"search.{key}": str(dimension) for key, dimension in space.search.items()}
    log.begin(f"tuning {space.name}", tags, searched | space.fixed)
    study.remember("run_id", log.run_id)
    status = "FAILED"
    try:
        log_trials(study, log)
        yield log
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        log.end(status)


def log_trials(study: "Study", log: "StudyLog") -> None:
    """Log the trials that have come to an end and are not in MLflow yet."""
    from fedmpq.tracking.study import TrialRecord
    from fedmpq.tuning import results

    for trial in study.trials:
        log.log(
            TrialRecord(
                trial.number,
                results.state(trial),
                results.values(trial),
                results.rounds(trial),
                results.reason(study, trial),
                trial.datetime_start,
                trial.datetime_complete,
            )
        )


def publish(study: "Study", plan: "Plan", parameters: Parameters, log: "StudyLog") -> None:
    """Write the tables and figures, bring them into the report and MLflow, and show the best trials."""
    from fedmpq.engine.hardware import describe
    from fedmpq.reporting import figures, tuning, tuning_figures
    from fedmpq.tuning import results
    from pipeline.report import renew

    name = study.space.name
    folder = command.ROOT / "reports" / name / "tuning"
    with replacing(folder) as temporary:
        temporary.mkdir()
        results.write(study, describe(plan.device), temporary)
        found = tuning.read(temporary)
        for title, figure in (tuning_figures.draw_all(found) if found else {}).items():
            figures.save(figure, temporary / f"{title}.png")
    if found is None:
        raise UserError(f"no trial is complete; {folder / 'trials.csv'} says why")
    row = results.row(study, study.best[0])
    measures = {name: row[name] for name in results.MEASURES if row[name] is not None}
    log.publish([trial.number for trial in study.best], measures, sorted(folder.iterdir()))
    renew(parameters)
    print(f"\n{tuning.as_plain_text(found)}\n\n{found.counts}: {folder}")
    print(f"Use the best values: make tune-apply EXPERIMENT={name}; then `dvc params diff`, and `dvc repro`")
