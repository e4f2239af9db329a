"""What a search leaves: a row for each trial, and the best values."""

from pathlib import Path
from typing import Any

import pandas as pd
from optuna.trial import FrozenTrial
from ruamel.yaml import YAML, YAMLError

from fedmpq.errors import UserError
from fedmpq.tuning.study import SUMMARY, VALUES, Study

OTHERS = 7
"""Next best trials whose values are kept beside the best ones; of two objectives it is the whole front."""
ACCURACY = ["accuracy", "accuracy_std"]
MEASURES = ["bits_given", "bits_left", "bits_pruned", "top_plane", "uplink_bytes", "downlink_bytes", "rounds", "seconds"]


def table(study: Study) -> pd.DataFrame:
    """trials.csv: number, state, what was measured, the values, why it failed; the best trials first.

    Accuracies are 0 .. 1, bytes those of a client in a round, seconds those of a round.
    """
    ranked = study.ranked
    trials = ranked + [trial for trial in study.trials if trial not in ranked]
    rows = [
        {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            **trial.user_attrs.get(SUMMARY, {}),
            **trial.user_attrs.get(VALUES, {}),
            "reason": study.reason(trial),
        }
        for trial in trials
    ]
    return pd.DataFrame(rows, columns=["trial", "state", *ACCURACY, *study.space.search, *MEASURES, "reason"])


def as_csv(trials: pd.DataFrame) -> str:
    """The content of trials.csv, in the order of the trials."""
    return trials.sort_values("trial").to_csv(index=False, float_format="%.8g", lineterminator="\n")


def write_best(study: Study, path: Path) -> None:
    """Write the values of the best trials; the study has a complete one."""
    best = study.best if study.space.two else study.ranked[: 1 + OTHERS]
    found = {
        "experiment": study.space.name,
        "best": best[0].number,
        "trials": {trial.number: _measured(trial) for trial in best},
        "of": study.optuna.user_attrs["identity"],
    }
    with path.open("w") as file:
        how = f"make tune-apply EXPERIMENT={study.space.name}"
        file.write(f"# Best on validation images. `{how}` writes values into params.yaml.\n")
        YAML().dump(found, file)


def _measured(trial: FrozenTrial) -> dict[str, Any]:
    return {"values": trial.user_attrs[VALUES], "accuracy": round(trial.user_attrs[SUMMARY]["accuracy"], 6)}


def read_best(folder: Path) -> dict[int, dict[str, Any]]:
    """The values, by dotted key, of each trial that best.yaml in `folder` names; the best one first.

    Raises:
        UserError: it is missing or damaged.
    """
    path = folder / "best.yaml"
    if not path.exists():
        raise UserError(f"{folder} holds no best values; find some with: make tune EXPERIMENT={folder.parent.name}")
    try:
        trials = YAML(typ="safe", pure=True).load(path.read_text())["trials"]
        return {int(number): dict(trial["values"]) for number, trial in trials.items()}
    except (OSError, ValueError, YAMLError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is damaged ({reason}); remove it, or make it again with: make tune") from error
