"""The loop of a search: propose, train, learn, until as many trials as asked for have come to an end."""

from collections.abc import Callable

from fedmpq.errors import UserError
from fedmpq.tuning.lanes import Ended, Lanes
from fedmpq.tuning.study import REASON, Study

FAILURES = 3
"""If the first so many trials all fail, the fault is not in their values."""


def sweep(study: Study, lanes: Lanes, ended: Callable[[int], None]) -> None:
    """Run the trials of `study` that are left.

    Args:
        study: decides values, and which trials are worth going on.
        lanes: carry the trials out.
        ended: called with the number of each trial that has come to an end.

    Raises:
        UserError: the first trials all failed.
    """
    earlier = len(study.trials)
    with lanes:
        while study.left or study.running:
            while lanes.free and study.left:
                _start(study, lanes, ended)
            if study.running:
                _advance(study, lanes, ended)
            _check_failures(study, earlier)


def _start(study: Study, lanes: Lanes, ended: Callable[[int], None]) -> None:
    number, values = study.ask()
    try:
        experiment = study.space.experiment(values)
    except UserError as error:  # values that are allowed one by one, but not together
        study.end(number, str(error))
        ended(number)
    else:
        lanes.start(number, experiment)


def _advance(study: Study, lanes: Lanes, ended: Callable[[int], None]) -> None:
    number, event = lanes.next()
    if isinstance(event, Ended):
        study.end(number, event.failure)
        ended(number)
        return
    go_on = study.report(number, event)
    lanes.answer(number, go_on)
    if not go_on:
        study.give_up(number)
        ended(number)


def _check_failures(study: Study, earlier: int) -> None:
    """Raise UserError if the first trials after `earlier` ones all failed."""
    reasons = [trial.user_attrs.get(REASON) for trial in study.trials[earlier:]]
    if len(reasons) >= FAILURES and all(reasons):
        raise UserError(f"the first {len(reasons)} trials failed; the last reason: {reasons[-1]}")
