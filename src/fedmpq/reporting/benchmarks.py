"""The benchmarks as the report and the terminal show them: reports/benchmarks.json."""

import json
import math
from pathlib import Path
from typing import Any

from fedmpq.errors import UserError
from fedmpq.reporting.claims import VERDICTS

HEADINGS = ["measure", "median", "against", "median", "found", "asked for", "verdict"]
IN_TERMINAL = ["name", "found", "asked for", "verdict", "medians"]
SIGNS = {"at most": "\N{LESS-THAN OR EQUAL TO}", "at least": "\N{GREATER-THAN OR EQUAL TO}"}
NOTHING = "-"


def section(path: Path) -> list[str]:
    """The parts of a report that show what `make bench` has measured; empty where it has not been run.

    Raises:
        UserError: the file is damaged.
    """
    if not path.exists():
        return []
    try:
        report = json.loads(path.read_text())
        rows = [HEADINGS, *map(_cells, report["benchmarks"])]
        return ["## Speed and memory", _introduction(report), _as_table(rows), _notes(report["benchmarks"])]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error!r}); make it anew with: make bench") from error


def as_plain_text(report: dict[str, Any]) -> str:
    """The table for a terminal, and the notes."""
    rows = [IN_TERMINAL]
    for entry in report["benchmarks"]:
        _, ours, _, reference, found, asked, verdict = _cells(entry)
        rows.append([entry["name"], found, asked, verdict, f"{ours} against {reference}"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", *(f"{entry['name']}: {entry['note']}" for entry in report["benchmarks"])])


def quantity(value: float, unit: str) -> str:
    """A number to three digits with its unit; less than a second in ms."""
    if unit == "s" and 0 < abs(value) < 1:
        value, unit = 1000 * value, "ms"
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{max(0, digits)}f} {unit}"


def _cells(entry: dict[str, Any]) -> list[str]:
    medians = [
        quantity(entry[side]["median"], entry[side]["unit"]) if entry[side] else NOTHING
        for side in ("measured", "reference")
    ]
    found = NOTHING if entry["value"] is None else quantity(entry["value"], entry["unit"])
    asked = f"{SIGNS[entry['bound']]} {entry['target']:g} {entry['unit']}"
    return [entry["measure"], medians[0], entry["against"], medians[1], found, asked, VERDICTS[entry["holds"]]]


def _introduction(report: dict[str, Any]) -> str:
    hardware = report["hardware"]
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items() if number)
    return (
        f"Measured by `make bench` on {report['started'][:10]}: {hardware['processor']}, {hardware['cores']} cores,"
        f" {hardware['memory_gib']:g} GiB, {hardware['precision']}; {versions}. The load average was"
        f" {report['load_average'][0]:g} at its start. What is compared was measured in turn, in one run; all on"
        " ResNet-20, 32 x 32 pixels, batch 64."
    )


def _as_table(rows: list[list[str]]) -> str:
    alignment = ["---", "---:", "---", "---:", "---:", "---:", "---"]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [rows[0], alignment, *rows[1:]])


def _notes(entries: list[dict[str, Any]]) -> str:
    return "\n".join(f"- {entry['measure']}: {entry['note']}" for entry in entries if entry["note"])
