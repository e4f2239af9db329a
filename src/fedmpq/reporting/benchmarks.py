"""The benchmarks as the report and the terminal show them: reports/benchmarks.json."""

import json
import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from tabulate import tabulate

from fedmpq.errors import UserError
from fedmpq.reporting import figures
from fedmpq.reporting.claims import VERDICTS

HEADINGS = ["measure", "against", "median", "of that", "found", "asked for", "verdict"]
ALIGNED = ("left", "left", "right", "right", "right", "right", "left")
SIGNS = {"at most": "\N{LESS-THAN OR EQUAL TO}", "at least": "\N{GREATER-THAN OR EQUAL TO}"}
FIGURE = "growth.png"


def section(path: Path) -> list[str]:
    """What a report shows of `make bench`, nothing where that was not run. Raises UserError for a damaged file."""
    if not path.exists():
        return []
    try:
        report = json.loads(path.read_text())
        rows = tabulate(map(_cells, report["benchmarks"]), HEADINGS, "pipe", colalign=ALIGNED, disable_numparse=True)
        notes = "\n".join(f"- {entry['measure']}: {entry['note']}" for entry in report["benchmarks"] if entry["note"])
        figure = [f"![A round of ever more clients](../{FIGURE})"] * path.with_name(FIGURE).exists()
        return ["## Speed and memory", _introduction(report), rows, notes, *figure]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error!r}); make it anew with: make bench") from error


def draw(growth: dict[str, list[float]], folder: Path) -> None:
    """Draw seconds of a round and MiB of all its processes over the number of clients: FIGURE in `folder`."""
    with mpl.rc_context(figures.STYLE):
        figure = Figure(figsize=(figures.WIDTH, 2.6), layout="constrained")
        panel = figure.add_subplot(xlabel="clients, of which 10 % train, at most 100", xmargin=0.1, ymargin=0.15)
        for unit, label in (("MiB", "memory of all processes (MiB)"), ("s", "a round (s)")):
            panel.loglog("clients", unit, "o-", data=growth, label=label)
            for place in zip(growth["clients"], growth[unit], strict=True):
                panel.annotate(quantity(place[1], unit), place, (0, 5), textcoords="offset points", ha="center")
        figure.legend(loc="outside upper center", ncols=2)
    figures.save(figure, folder / FIGURE)


def as_plain_text(report: dict[str, Any]) -> str:
    """The table for a terminal, and the notes."""
    rows = [[entry["name"], *_cells(entry)[2:]] for entry in report["benchmarks"]]
    notes = (f"{entry['name']}: {entry['note']}" for entry in report["benchmarks"])
    return "\n".join([tabulate(rows, ["name", *HEADINGS[2:]], "plain", disable_numparse=True), "", *notes])


def quantity(value: float, unit: str) -> str:
    """A number to three digits with its unit; less than a second in ms."""
    if unit == "s" and 0 < abs(value) < 1:
        value, unit = 1000 * value, "ms"
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{max(0, digits)}f} {unit}"


def _cells(entry: dict[str, Any]) -> list[str]:
    sides = (entry["measured"], entry["reference"])
    ours, theirs = (quantity(side["median"], side["unit"]) if side else "-" for side in sides)
    found = "-" if entry["value"] is None else quantity(entry["value"], entry["unit"])
    asked = f"{SIGNS[entry['bound']]} {entry['target']:g} {entry['unit']}"
    return [entry["measure"], entry["against"], ours, theirs, found, asked, VERDICTS[entry["holds"]]]


def _introduction(report: dict[str, Any]) -> str:
    hardware, date, load = report["hardware"], report["started"][:10], report["load_average"][0]
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items() if number)
    return (
        f"Measured by `make bench` on {date}: {hardware['processor']}, {hardware['cores']} cores,"
        f" {hardware['memory_gib']:g} GiB, {hardware['precision']}; {versions}. The load average was {load:g} at first."
        " All on ResNet-20, 32 x 32 pixels, batch 64, if nothing else is said."
    )
