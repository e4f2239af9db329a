"""The results of a search as the report and the terminal show them: reports/<experiment>/tuning/."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML, YAMLError

from fedmpq.errors import UserError
from fedmpq.reporting.results import shown

SHOWN = 8
"""Trials that the table of the best ones has."""
LAMBDA, EPSILON = "\N{GREEK SMALL LETTER LAMDA}", "\N{GREEK SMALL LETTER EPSILON}"
SYMBOLS = {"lambda": LAMBDA, "epsilon": EPSILON}
STATES = {"complete": "complete", "pruned": "given up early", "failed": "failed"}
CAPTIONS = {
    "accuracy-over-": (
        "Validation accuracy over {name}. Below, in the same trials: the share of ones that training leaves in the most"
        " significant magnitude planes of the clients' layers (a plane that is pruned counts as empty), and the bits"
        " that clients prune. Lines are means weighted by nearness."
    ),
    "history": "Validation accuracy of the trials in their order; the line is the best so far.",
    "importance": "The share of the spread in accuracy that each parameter explains (fANOVA over the complete trials).",
    "pareto-front": "Accuracy against the bytes that a client sends in a round; no trial beats the front in both.",
}


@dataclass(frozen=True)
class Tuning:
    """What a search has left."""

    trials: pd.DataFrame
    """trials.csv."""
    best: dict[str, Any]
    """best.yaml."""

    @cached_property
    def complete(self) -> pd.DataFrame:
        """The complete trials."""
        return self.trials[self.trials["state"] == "complete"]

    @cached_property
    def ranked(self) -> pd.DataFrame:
        """The complete trials, the best first; of two objectives the front first."""
        front = ~self.complete["trial"].isin(self.best.get("front", []))
        order = self.complete.assign(behind=front).sort_values(
            ["behind", "accuracy"], ascending=[True, False], kind="stable"
        )
        return order.drop(columns="behind")

    @property
    def keys(self) -> list[str]:
        """What was searched, by dotted key."""
        return list(self.best["searched"])

    @property
    def fixed(self) -> dict[str, Any]:
        """What else determines a trial."""
        return self.best["fixed"]

    def is_log(self, key: str) -> bool:
        """Whether `key` was searched over orders of magnitude."""
        return self.best["searched"][key].endswith(", log")

    @property
    def counts(self) -> str:
        """How many trials came to which end."""
        ends = ", ".join(f"{count} {STATES[state]}" for state, count in self.best["trials"].items())
        return f"{len(self.trials)} trials ({ends})"


def read(folder: Path) -> Tuning | None:
    """What `make tune` wrote into `folder`; None if there is nothing, or no best trial.

    Raises:
        UserError: it is damaged.
    """
    if not all((folder / name).exists() for name in ("trials.csv", "best.yaml")):
        return None
    try:
        found = YAML(typ="safe", pure=True).load((folder / "best.yaml").read_text())
        tuning = Tuning(pd.read_csv(folder / "trials.csv"), found)
        needed = {"experiment", "trial", "values", "accuracy", "others", "trials", "searched", "fixed", "hardware"}
        columns = {"trial", "state", "accuracy", "bits_given", "bits_pruned", "top_plane", "uplink_bytes", *tuning.keys}
        if lacking := (needed - found.keys()) | (columns - set(tuning.trials.columns)):
            raise ValueError(f"{min(lacking)} is missing")
    except (OSError, ValueError, YAMLError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder} is damaged ({reason}); remove it, or make it again with: make tune") from error
    return tuning


def label(key: str) -> str:
    """How figures and tables call the parameter `key`."""
    last = key.rpartition(".")[2]
    return SYMBOLS.get(last, last.replace("_", " "))


def table(tuning: Tuning) -> list[list[str]]:
    """Headings and the best trials as text; a column without any number is left out."""
    ranked = tuning.ranked.head(SHOWN)
    columns = {"trial": ranked["trial"].map(str), "accuracy (%)": [_accuracy(row) for _, row in ranked.iterrows()]}
    columns |= {label(key): ranked[key].map(_value) for key in tuning.keys}
    columns |= {
        "bits given": _numbers(ranked["bits_given"], "{:.3f}"),
        "bits pruned": _numbers(ranked["bits_pruned"], "{:.3f}"),
        "top plane (%)": _numbers(100 * ranked["top_plane"], "{:.1f}"),
        "up (kB)": _numbers(ranked["uplink_bytes"] / 1000, "{:.1f}"),
    }
    kept = {heading: list(cells) for heading, cells in columns.items() if set(cells) != {"-"}}
    return [list(kept), *map(list, zip(*kept.values(), strict=True))]


def as_plain_text(tuning: Tuning) -> str:
    """The table for a terminal."""
    columns = [column for column in zip(*table(tuning), strict=True) if column[0] != "bits given"]
    widths = [max(map(len, column)) for column in columns]
    rows = zip(*columns, strict=True)
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def introduction(tuning: Tuning) -> str:
    """What was searched, on what, and what was found."""
    best, fixed = tuning.best, tuning.fixed
    searched = " and ".join(f"`{key}` ({values})" for key, values in best["searched"].items())
    found = ", ".join(f"`{key}: {_value(value)}`" for key, value in best["values"].items())
    images = f"{fixed['train_samples']:,} images" if fixed["train_samples"] else "all training images"
    seeds, share, last = len(fixed["seeds"]), fixed["validation"], fixed["final_rounds"]
    verb = "was" if len(best["searched"]) == 1 else "were"
    text = (
        f"{searched} {verb} searched for {shown(fixed['algorithm'])} at alpha {fixed['alpha']:g}: {tuning.counts}"
        f" of {fixed['rounds']} rounds on {images}, {seeds} seed{'s' * (seeds > 1)} each. Accuracy is that on the"
        f" {100 * share:g} % of them that no client trains on, over the last {last} rounds; the test set is not used."
        f" Best is trial {best['trial']} ({100 * best['accuracy']:.1f} %): {found}."
    )
    return f"{text} `make tune-apply EXPERIMENT={best['experiment']}` writes that into params.yaml."


def section(folder: Path) -> list[str]:
    """The parts of a report that show what is in reports/<experiment>/tuning/; empty where nothing is."""
    tuning = read(folder)
    if tuning is None:
        return []
    rows = table(tuning)
    lines = [rows[0], ["---:"] * len(rows[0]), *rows[1:]]
    figures = [(caption(name), name) for name in figure_names(tuning) if (folder / f"{name}.png").exists()]
    return [
        "## Tuning",
        introduction(tuning),
        "\n".join(f"| {' | '.join(line)} |" for line in lines),
        *(part for text, name in figures for part in (text, f"![{_alternative(name)}](tuning/{name}.png)")),
    ]


def figure_names(tuning: Tuning) -> list[str]:
    """The figures that there may be, by file name without ending, in the report's order."""
    over = [f"accuracy-over-{key.rpartition('.')[2]}" for key in tuning.keys]
    return [*over, "importance", "pareto-front", "history"]


def _alternative(name: str) -> str:
    return name.replace("-", " ").capitalize()


def caption(name: str) -> str:
    """What the figure called `name` shows."""
    prefix = next(prefix for prefix in CAPTIONS if name.startswith(prefix))
    return CAPTIONS[prefix].format(name=name.removeprefix(prefix))


def _accuracy(row: pd.Series) -> str:
    spread = "" if pd.isna(row.get("accuracy_std")) else f" ± {100 * row['accuracy_std']:.1f}"
    return f"{100 * row['accuracy']:.1f}{spread}"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _numbers(column: pd.Series, form: str) -> list[str]:
    return ["-" if pd.isna(value) else form.format(value) for value in column]
