"""The benchmarks as the report and the terminal show them: reports/benchmarks.json."""

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from fedmpq.errors import UserError
from fedmpq.reporting.claims import VERDICTS
from fedmpq.reporting.markup import table

HEADINGS = ["measure", "median", "against", "median", "found", "asked for", "verdict"]
IN_TERMINAL = ["found", "asked for", "verdict", "medians"]
SIGNS = {"at most": "\N{LESS-THAN OR EQUAL TO}", "at least": "\N{GREATER-THAN OR EQUAL TO}"}


def section(path: Path) -> list[str]:
    """The parts of a report that show what `make bench` has measured; empty where it has not been run.

    Raises:
        UserError: the file is damaged.
    """
    if not path.exists():
        return []
    try:
        report = json.loads(path.read_text())
        measured = table(_texts(report), right=["median", "found", "asked for"])
        notes = [f"- {entry['measure']}: {entry['note']}" for entry in report["benchmarks"] if entry["note"]]
        return ["## Speed and memory", _introduction(report), measured, "\n".join(notes)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error!r}); make it anew with: make bench") from error


def as_plain_text(report: dict[str, Any]) -> str:
    """The table for a terminal, and the notes."""
    texts = _texts(report)
    texts["medians"] = texts["median"].agg(" against ".join, axis=1)
    rows = texts[IN_TERMINAL].to_markdown(tablefmt="plain", disable_numparse=True)
    return "\n".join([rows, "", *(f"{entry['name']}: {entry['note']}" for entry in report["benchmarks"])])


def quantity(value: float | None, unit: str) -> str:
    """A number to three digits with its unit; less than a second in ms."""
    if value is None:
        return "-"
    if unit == "s" and 0 < abs(value) < 1:
        value, unit = 1000 * value, "ms"
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{max(0, digits)}f} {unit}"


def _texts(report: dict[str, Any]) -> pd.DataFrame:
    """What HEADINGS names, by the names of the benchmarks."""
    rows = {}
    for entry in report["benchmarks"]:
        sides = [entry[side] or {"median": None, "unit": ""} for side in ("measured", "reference")]
        ours, reference = (quantity(side["median"], side["unit"]) for side in sides)
        found = quantity(entry["value"], entry["unit"])
        asked = f"{SIGNS[entry['bound']]} {entry['target']:g} {entry['unit']}"
        verdict = VERDICTS[entry["holds"]]
        rows[entry["name"]] = [entry["measure"], ours, entry["against"], reference, found, asked, verdict]
    return pd.DataFrame.from_dict(rows, "index", columns=HEADINGS).rename_axis("name")


def _introduction(report: dict[str, Any]) -> str:
    hardware = report["hardware"]
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items() if number)
    return (
        f"Measured by `make bench` on {report['started'][:10]}: {hardware['processor']}, {hardware['cores']} cores,"
        f" {hardware['memory_gib']:g} GiB, {hardware['precision']}; {versions}. The load average was"
        f" {report['load_average'][0]:g} at its start. What is compared was measured in turn, in one run; all on"
        " ResNet-20, 32 x 32 pixels, batch 64."
    )
