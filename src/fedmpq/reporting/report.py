"""The report of an experiment: report.md, the same as one report.html, and its numbers as JSON."""

import base64
import html
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

from markdown import markdown

from fedmpq.config import Parameters
from fedmpq.files import replacing, write_json, write_text
from fedmpq.reporting import benchmarks, claims, figures, summary, tuning
from fedmpq.reporting.results import Results, load, shown

CAPTIONS = {
    "accuracy-over-rounds": ("Accuracy over rounds", "Test accuracy of the global model after each round."),
    "accuracy-over-bytes": (
        "Accuracy over bytes sent",
        "The same accuracy over the bytes that all clients together have sent (1 MB = 10⁶ bytes, logarithmic).",
    ),
    "bits-per-layer": (
        "Bit-width of each layer",
        "Bits that FedMPQ gives to clients of budget 2, 4 and 6 in the last round. All clients of a budget that take"
        " part get the same bits; shown is the first one of the first seed.",
    ),
    "average-bits": (
        "Average bit-width over rounds",
        "Averages over the weights and over clients and seeds, for each budget.",
    ),
    "partitions": (
        "Partition",
        "Training images of each label that each client holds; darker is more. Small alpha: few classes a client.",
    ),
}
READING = """\
- Final accuracy is the mean of the last 5 rounds, best accuracy that of the best round; both are of the global model
  at full precision on the test set, which is used for nothing else. ± is the standard deviation over seeds.
- "vs FP32" is the difference in points at equal seeds. Bits are the average over weights, clients and rounds, and
  include the sign.
- Up and down are the lengths of the messages that one client sends and receives in a round (1 kB = 1000 bytes): packed
  codes, scales, bit-widths, and batch norm and biases as float32. Nominal is bits x weights alone. Size compares the
  uplink with FP32's.
- The paper's claims are checked by code on the numbers of this page; one that does not hold is a finding.
"""
STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --paper: #fff; --line: #d9dce0; --soft: #f4f5f7; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #dfe2e6; --paper: #16181b; --line: #3a3f45; --soft: #1f2226; }
}
body { margin: 0 auto; padding: 2rem 1.2rem 4rem; max-width: 62rem; color: var(--ink); background: var(--paper);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.25rem; margin-top: 2.4rem; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 6px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.86rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.35rem 0.6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
td[style*="right"] { white-space: nowrap; }
th { background: var(--soft); }
code, pre { background: var(--soft); border-radius: 4px; padding: 0.1rem 0.3rem; font-size: 0.88em; }
pre { padding: 0.7rem 0.9rem; overflow-x: auto; } pre code { padding: 0; }
td.holds, td.does-not-hold, td.not-run { font-weight: 600; white-space: nowrap; }
td.holds { color: #1a7f4b; } td.does-not-hold { color: #c2410c; } td.not-run { font-weight: 400; opacity: 0.7; }
@media (prefers-color-scheme: dark) { td.holds { color: #4cc38a; } td.does-not-hold { color: #ff9b6a; } }
"""
PAGE = Template(
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    "<title>$title</title>\n<style>$style</style>\n</head>\n<body>\n$body\n</body>\n</html>\n"
)


def write(root: Path, parameters: Parameters, experiment: str) -> dict[str, Any]:
    """Write reports/<experiment>/ below `root` from its results; leaves other files there alone.

    Returns:
        What summary.json holds.

    Raises:
        UserError: there is no such experiment, it has no results, or a file of them is broken.
    """
    results = load(root, parameters, experiment)
    folder = root / "reports" / experiment
    drawn, numbers, verdicts = figures.draw_all(results), summary.summarize(results), claims.evaluate(results)
    more = tuning.section(folder / "tuning") + benchmarks.section(folder.parent / "benchmarks.json")
    text = as_markdown(results, list(drawn), numbers, verdicts, more)
    with replacing(folder / "figures") as temporary:
        temporary.mkdir()
        for name, figure in drawn.items():
            figures.save(figure, temporary / f"{name}.png")
    write_json(folder / "summary.json", numbers)
    write_json(folder / "claims.json", verdicts)
    write_text(folder / "report.md", text)
    write_text(folder / "report.html", as_html(text, folder))
    return numbers


def as_markdown(
    results: Results,
    figure_names: list[str],
    numbers: dict[str, Any],
    verdicts: list[dict[str, Any]],
    more: Sequence[str] = (),
) -> str:
    """The report as Markdown; images are named relative to it."""
    columns = ["claim", "source", "found", "verdict"]
    parts = [
        f"# {results.experiment}: federated learning at mixed precision",
        _introduction(results, verdicts),
        _missing(results),
        "## Summary",
        _table(*summary.table(numbers), numbers_from=2),
        READING,
        *_figures(figure_names),
        "## The paper's claims",
        _table(columns, *([entry[column] for column in columns] for entry in verdicts)),
        *more,
        "## Made with",
        _made_with(results, numbers),
        _table(["parameter", "value"], *_parameters(results)),
        "## Make it again",
        _command(results),
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def as_html(text: str, folder: Path) -> str:
    """`text` as a page that needs no other file: images below `folder` become part of it."""

    def inline(match: re.Match) -> str:
        image = base64.b64encode((folder / html.unescape(match[1])).read_bytes()).decode()
        return f'src="data:image/png;base64,{image}"'

    body = markdown(text, extensions=["tables", "fenced_code"])
    body = body.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
    for verdict in claims.VERDICTS.values():
        body = body.replace(f"<td>{verdict}</td>", f'<td class="{verdict.replace(" ", "-")}">{verdict}</td>')
    title = html.escape(text.partition("\n")[0].lstrip("# "))
    return PAGE.substitute(title=title, style=STYLE, body=re.sub(r'src="([^"]+)"', inline, body))


def _introduction(results: Results, verdicts: list[dict[str, Any]]) -> str:
    settings = results.settings
    budgets = ", ".join(f"{budget:g}" for budget in settings.model.budgets)
    said = Counter(entry["verdict"] for entry in verdicts)
    chance = f" Guessing reaches {100 * results.chance:.3g} %." if results.chance else ""
    return (
        f"{settings.partition.clients} clients with budgets of {budgets} bits per weight train"
        f" {settings.model.network} on {settings.data.source} for {' or '.join(map(str, results.lengths))} rounds, with seeds"
        f" {', '.join(map(str, results.seeds))}.{chance}"
        f" The paper's claims: {', '.join(f'{verdict} {said[verdict]}' for verdict in claims.VERDICTS.values())}."
    )


def _missing(results: Results) -> str:
    notes = []
    if results.missing:
        cells = ", ".join(f"{shown(name)} at alpha {alpha:g}" for name, alpha in results.missing)
        notes.append(f"**Missing:** {cells}. Run `dvc repro`.")
    if len(results.lengths) > 1 or any(c.metrics.seeds != results.seeds for c in results.cells.values()):
        notes.append("**Mixed:** not all results have the same rounds and seeds. Run `dvc repro`.")
    return "\n\n".join(notes)


def _figures(names: list[str]) -> list[str]:
    parts = []
    for prefix, (title, caption) in CAPTIONS.items():
        if images := [name for name in names if name.startswith(prefix)]:
            parts += [f"## {title}", caption, *(f"![{_alternative(name)}](figures/{name}.png)" for name in images)]
    return parts


def _alternative(name: str) -> str:
    words, _, alpha = name.partition("-alpha-")
    return words.replace("-", " ").capitalize() + (f", alpha {alpha}" if alpha else "")


def _made_with(results: Results, numbers: dict[str, Any]) -> str:
    torch, *report = (f"{name} {number}" for name, number in numbers["versions"].items())
    lines = [*results.hardware, f"trained with {torch}; reported with {', '.join(report)}"]
    return "\n".join(f"- {line}" for line in lines)


def _parameters(results: Results) -> list[list[str]]:
    """What the cells ran with; a parameter that algorithms differ in shows each one's value."""
    values: dict[str, dict[str, list[str]]] = {}
    for (algorithm, _), cell in results.cells.items():
        for key, value in cell.metrics.parameters.items():
            if key not in ("experiment", "algorithm", "alpha"):
                text = value if isinstance(value, str) else json.dumps(value)
                values.setdefault(key, {}).setdefault(text, []).append(shown(algorithm))
    everyone = {shown(algorithm) for algorithm, _ in results.cells}
    rows = []
    for key, users in values.items():
        shared = len(users) == 1 and set(*users.values()) == everyone
        texts = [v if shared else f"{v} ({', '.join(dict.fromkeys(names))})" for v, names in users.items()]
        rows.append([f"`{key}`", "; ".join(texts)])
    return rows


def _command(results: Results) -> str:
    algorithms, alphas = ", ".join(results.algorithms), ", ".join(f"{alpha:g}" for alpha in results.alphas)
    lists = [f"experiments: [{results.experiment}]", f"algorithms: [{algorithms}]", f"alphas: [{alphas}]"]
    yaml, shell = "\n".join(["```yaml", *lists, "```"]), "```sh\ndvc repro\n```"
    return f"In params.yaml, with the parameters above in its section:\n\n{yaml}\n\nThen:\n\n{shell}"


def _table(*rows: list[str], numbers_from: int | None = None) -> str:
    """The rows, headings first; columns from `numbers_from` on are aligned to the right."""
    count = len(rows[0])
    left = count if numbers_from is None else numbers_from
    lines = [rows[0], ["---"] * left + ["---:"] * (count - left), *rows[1:]]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
