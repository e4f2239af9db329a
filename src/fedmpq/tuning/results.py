"""What a search leaves: a row for each trial, and the best values."""

import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState
from ruamel.yaml import YAML

from fedmpq.tuning.study import REASON, ROUNDS, SUMMARY, VALUES, Study

STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
MEASURES = ("accuracy", "bits_given", "bits_left", "bits_pruned", "top_plane", "uplink_bytes", "downlink_bytes")
"""Columns of trials.csv that measure a trial."""
OTHERS = 7
"""Next best trials whose values are kept beside the best ones; of two objectives it is the whole front."""
COMPARABLE = 4
"""Complete trials from which the importance of parameters is estimated."""
BEFORE = ("accuracy", "accuracy_std")
AFTER = ("bits_given", "bits_left", "bits_pruned", "top_plane", "uplink_bytes", "downlink_bytes", "rounds", "seconds")


def state(trial: FrozenTrial) -> str:
    """complete, pruned or failed."""
    return STATES[trial.state]


def reason(study: Study, trial: FrozenTrial) -> str | None:
    """Why a trial failed, in one line."""
    if trial.state != TrialState.FAIL:
        return None
    again = study.repeated.get(trial.number)
    killed = "the search was killed" + (f"; run again as trial {again}" if again is not None else "")
    return trial.user_attrs.get(REASON, killed)


def rounds(trial: FrozenTrial) -> list[dict[str, Any]]:
    """What `fedmpq.tuning.trial.run` yielded; empty for a trial that was killed."""
    return trial.user_attrs.get(ROUNDS, [])


def values(trial: FrozenTrial) -> dict[str, Any]:
    """What it trained with, by dotted key."""
    return trial.user_attrs.get(VALUES, {})


def row(study: Study, trial: FrozenTrial) -> dict[str, Any]:
    """The row of trials.csv: number, state, what it measured (None: not known), its values, why it failed."""
    measured = trial.user_attrs.get(SUMMARY, {})
    return {
        "trial": trial.number,
        "state": state(trial),
        **{name: measured.get(name) for name in BEFORE},
        **{key: values(trial).get(key) for key in study.space.search},
        **{name: measured.get(name) for name in AFTER},
        "reason": reason(study, trial),
    }


def trials_csv(study: Study) -> str:
    """The content of trials.csv. Accuracies are 0 .. 1, bytes those of a client in a round."""
    return pd.DataFrame([row(study, trial) for trial in study.trials]).to_csv(
        index=False, float_format="%.8g", lineterminator="\n"
    )


def best(study: Study, hardware: Mapping[str, Any]) -> dict[str, Any]:
    """The content of best.yaml; the study has a complete trial."""
    space, ranked = study.space, study.best
    chosen = ranked[0]
    if not study.two:
        complete = (trial for trial in study.trials if trial.state == TrialState.COMPLETE)
        ranked = sorted(complete, key=lambda trial: (-trial.values[0], trial.number))[: 1 + OTHERS]
    found = {
        "experiment": space.name,
        "trial": chosen.number,
        "values": values(chosen),
        **_measured(chosen),
        "front": [trial.number for trial in ranked] if study.two else None,
        "others": {trial.number: {"values": values(trial), **_measured(trial)} for trial in ranked[1:]},
        "trials": dict(Counter(map(state, study.trials))),
        "importance": importance(study) or None,
        "searched": {key: str(dimension) for key, dimension in space.search.items()},
        "fixed": space.fixed,
        "hardware": f"{hardware['processor']}, {hardware['cores']} cores, {hardware['device']}",
    }
    return {key: value for key, value in found.items() if value is not None}


def _measured(trial: FrozenTrial) -> dict[str, float]:
    """Accuracy, 0 .. 1, and the bytes that a client sends in a round."""
    summary = trial.user_attrs[SUMMARY]
    return {"accuracy": round(summary["accuracy"], 6), "uplink_bytes": round(summary["uplink_bytes"], 1)}


def best_yaml(study: Study, hardware: Mapping[str, Any]) -> str:
    """The content of best.yaml as text."""
    text = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style, yaml.width = None, 1000  # lists on one line
    yaml.sort_base_mapping_type_on_output = False
    yaml.dump(best(study, hardware), text)
    how = f"make tune-apply EXPERIMENT={study.space.name}"
    return f"# Best on validation images. `{how}` writes `values` into params.yaml.\n{text.getvalue()}"


def importance(study: Study) -> dict[str, float]:
    """Share of the spread in accuracy that each parameter explains, largest first; empty if too little is known."""
    complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    if len(study.space.search) < 2 or len({trial.values[0] for trial in complete}) < COMPARABLE:
        return {}
    evaluator = FanovaImportanceEvaluator(seed=study.space.tune.sampler_seed)
    shares = get_param_importances(study.optuna, evaluator=evaluator, target=lambda trial: trial.values[0])
    return {key: round(float(share), 4) for key, share in shares.items()}


def write(study: Study, hardware: Mapping[str, Any], folder: Path) -> None:
    """Write trials.csv and, if any trial is complete, best.yaml into `folder`."""
    (folder / "trials.csv").write_text(trials_csv(study))
    if study.best:
        (folder / "best.yaml").write_text(best_yaml(study, hardware))
