"""What a search has found, as a section of the report."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from fedmpq.reporting.results import shown

SHOWN = 8  # trials that the table of the best ones has


def best_trials(trials: pd.DataFrame, keys: Iterable[str], tablefmt: str = "pipe") -> str:
    """A table of the best of `trials` (see `fedmpq.tuning.study.table`) with the parameters `keys`."""
    columns = ["trial", "accuracy", "accuracy_std", *keys, "bits_pruned", "uplink_bytes"]
    best = trials[trials["state"] == "complete"].head(SHOWN).reindex(columns=columns).dropna(axis=1, how="all")
    return best.to_markdown(index=False, floatfmt=".6g", tablefmt=tablefmt)


def as_markdown(
    trials: pd.DataFrame, searched: Mapping[str, Any], fixed: Mapping[str, Any], figures: Iterable[str]
) -> str:
    """The section: what was `searched`, what else was `fixed` (by dotted key), and what was found."""
    dimensions = " and ".join(f"`{key}` ({dimension})" for key, dimension in searched.items())
    text = (
        f"{dimensions}, searched for {shown(fixed['algorithm'])} at alpha {fixed['alpha']:g} in {len(trials)} trials of"
        f" {fixed['training.rounds']} rounds with seeds {fixed['partition.seeds']} on"
        f" {fixed['data.train_samples'] or 'all'} training images. Accuracy is that on the"
        f" {100 * fixed['data.validation']:g} % of them that no client trains on, over the last"
        f" {_last_rounds(fixed)}; the test set is not used. `make tune-apply` writes the best values into params.yaml."
        " The bits pruned are those of a client in a round, importance is the share of the spread in accuracy explained"
        " (fANOVA)."
    )
    images = [f"![{name.replace('-', ' ').capitalize()}](tuning/{name}.png)" for name in figures]
    return "\n\n".join(["## Tuning", text, best_trials(trials, searched), *images]) + "\n"


def footer(name: str, fixed: Mapping[str, Any], trials: int, hardware: Mapping[str, Any]) -> str:
    """The small print of a figure: data set, model, algorithm, seeds, rounds, hardware."""
    parts = [
        f"{name}  ·  {fixed['data.train_samples'] or 'all'} images  ·  {fixed['model.network']}",
        f"{shown(fixed['algorithm'])} at alpha {fixed['alpha']:g}  ·  seeds {str(fixed['partition.seeds'])[1:-1]}\n"
        f"{trials} trials of up to {fixed['training.rounds']} rounds, accuracy over the last {_last_rounds(fixed)}",
        "{processor}, {cores} cores, {device}".format_map(hardware),
    ]
    return "  ·  ".join(parts)


def _last_rounds(fixed: Mapping[str, Any]) -> str:
    count = min(fixed["final_rounds"], fixed["training.rounds"])
    return f"{count} round{'s' * (count > 1)}"
