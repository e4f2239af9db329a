"""What a search leaves: a row for each trial, and the best values."""

from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML, YAMLError

from fedmpq.errors import UserError
from fedmpq.tuning.study import REASON, SUMMARY, VALUES, Study

KEPT = 8
"""Best trials whose values are kept; of two objectives it is the whole front."""
ACCURACY = ["accuracy", "accuracy_std"]
MEASURES = [
    "bits_given",
    "bits_left",
    "bits_pruned",
    "top_plane",
    "uplink_bytes",
    "downlink_bytes",
    "rounds",
    "seconds",
]


def table(study: Study) -> pd.DataFrame:
    """trials.csv: number, state, what was measured (see `summarize`), the values, why it failed; the best ones first."""
    ranked = study.ranked
    rows = [
        {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            **trial.user_attrs.get(SUMMARY, {}),
            **trial.user_attrs.get(VALUES, {}),
            "reason": trial.user_attrs.get(REASON),
        }
        for trial in ranked + [trial for trial in study.trials if trial not in ranked]
    ]
    return pd.DataFrame(rows, columns=["trial", "state", *ACCURACY, *study.space.search, *MEASURES, "reason"])


def as_csv(trials: pd.DataFrame) -> str:
    """The content of trials.csv, in the order of the trials."""
    return trials.sort_values("trial").to_csv(index=False, float_format="%.8g", lineterminator="\n")


def write_best(study: Study, path: Path) -> None:
    """Write the values of the best trials, the best one first."""
    best = study.best if study.space.two else study.ranked[:KEPT]
    found = {
        "trials": {
            trial.number: {"accuracy": round(trial.values[0], 6), "values": trial.user_attrs[VALUES]} for trial in best
        },
        "of": study.optuna.user_attrs["identity"],
    }
    with path.open("w") as file:
        how = f"make tune-apply EXPERIMENT={study.space.name}"
        file.write(f"# Best on validation images. `{how}` writes the first one's values into params.yaml.\n")
        YAML().dump(found, file)


def read_best(folder: Path) -> dict[int, dict[str, Any]]:
    """The values, by dotted key, of each trial that best.yaml in `folder` names; the best one first.

    Raises:
        UserError: it is missing or damaged.
    """
    path, remedy = folder / "best.yaml", f"make tune EXPERIMENT={folder.parent.name}"
    if not path.exists():
        raise UserError(f"{folder} holds no best values; find some with: {remedy}")
    try:
        trials = YAML(typ="safe", pure=True).load(path.read_text())["trials"]
        return {int(number): dict(trial["values"]) for number, trial in trials.items()}
    except (OSError, ValueError, YAMLError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({' '.join(str(error).split())}); remove it, and: {remedy}") from error
