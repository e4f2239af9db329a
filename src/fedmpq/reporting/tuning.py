"""What a search has found, for a person: a table for the terminal, a section of the report."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from fedmpq.reporting.results import shown

SHOWN = 8
"""Trials that the table of the best ones has."""
SYMBOLS = {"lambda": "\N{GREEK SMALL LETTER LAMDA}", "epsilon": "\N{GREEK SMALL LETTER EPSILON}"}
CAPTIONS = {
    "accuracy-over": (
        "Validation accuracy over a parameter. Below, in the same trials: the share of ones that training leaves in"
        " the most significant magnitude planes of the clients' layers (a plane that is pruned counts as empty), and"
        " the bits that clients prune."
    ),
    "choices": "Validation accuracy of each choice.",
    "importance": "The share of the spread in accuracy that each parameter explains (fANOVA over the complete trials).",
    "pareto-front": "Accuracy against the bytes that a client sends in a round; no trial beats the front in both.",
    "history": "Validation accuracy of the complete trials in their order.",
}


def label(key: str) -> str:
    """How figures and tables call the parameter `key`."""
    last = key.rpartition(".")[2]
    return SYMBOLS.get(last, last.replace("_", " "))


def best_trials(trials: pd.DataFrame, keys: Iterable[str]) -> pd.DataFrame:
    """The table of the best of `trials` (see `fedmpq.tuning.results.table`), with the parameters `keys`."""
    best = trials[trials["state"] == "complete"].head(SHOWN)
    columns = {
        "trial": best["trial"],
        "accuracy (%)": (100 * best["accuracy"]).round(1),
        "± over seeds": (100 * best["accuracy_std"]).round(1),
        **{label(key): best[key] for key in keys},
        "bits pruned": best["bits_pruned"].round(3),
        "top plane (%)": (100 * best["top_plane"]).round(1),
        "up (kB)": (best["uplink_bytes"] / 1000).round(1),
    }
    return pd.DataFrame(columns).dropna(axis=1, how="all")


def counts(trials: pd.DataFrame) -> str:
    """How many trials came to which end."""
    ends = ", ".join(f"{count} {state}" for state, count in trials["state"].value_counts().items())
    return f"{len(trials)} trials ({ends})"


def as_markdown(
    trials: pd.DataFrame, searched: Mapping[str, Any], fixed: Mapping[str, Any], figures: Iterable[str]
) -> str:
    """The section of the report: what was `searched`, what else was `fixed` (by dotted key), and what was found."""
    dimensions = " and ".join(f"`{key}` ({dimension})" for key, dimension in searched.items())
    text = (
        f"{dimensions}, searched for {shown(fixed['algorithm'])} at alpha {fixed['alpha']:g}: {counts(trials)} of"
        f" {fixed['training.rounds']} rounds with seeds {fixed['partition.seeds']} on"
        f" {fixed['data.train_samples'] or 'all'} training images. Accuracy is that on the"
        f" {100 * fixed['data.validation']:g} % of them that no client trains on, over the last"
        f" {fixed['final_rounds']} rounds; the test set is not used. `make tune-apply` writes the best values into"
        " params.yaml."
    )
    parts = ["## Tuning", text, best_trials(trials, searched).to_markdown(index=False)]
    for prefix, caption in CAPTIONS.items():
        if names := [name for name in figures if name.startswith(prefix)]:
            parts += [caption, *(f"![{name.replace('-', ' ').capitalize()}](tuning/{name}.png)" for name in names)]
    return "\n\n".join(parts) + "\n"


def section(folder: Path) -> list[str]:
    """The part of a report that `make tune` has written into reports/<experiment>/tuning/, if it has."""
    path = folder / "section.md"
    return [path.read_text()] if path.exists() else []
