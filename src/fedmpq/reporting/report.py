"""The report of an experiment: report.md, the same as one report.html, and its numbers as JSON."""

import base64
import html
import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown import markdown

from fedmpq.config import Parameters
from fedmpq.engine.history import FINAL_ROUNDS
from fedmpq.files import replacing, write_json, write_text
from fedmpq.reporting import benchmarks, exports, figures, tuning
from fedmpq.reporting.claims import VERDICTS, evaluate
from fedmpq.reporting.fonts import readable
from fedmpq.reporting.results import Results, load, shown
from fedmpq.reporting.summary import summarize, table

# The templates are of this package, and what is not comes through `plain`.
TEMPLATES = Environment(
    loader=PackageLoader(__package__, ""), trim_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined
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
    drawn, numbers, claims = figures.draw_all(results), summarize(results), evaluate(results)
    more = exports.section(root / "exports" / experiment) + tuning.section(folder / "tuning")
    more += benchmarks.section(folder.parent / "benchmarks.json")
    text = as_markdown(results, drawn, numbers, claims, more)
    with replacing(folder / "figures") as temporary:
        temporary.mkdir()
        for name, figure in drawn.items():
            figures.save(figure, temporary / f"{name}.png")
    write_json(folder / "summary.json", numbers)
    write_json(folder / "claims.json", claims)
    write_text(folder / "report.md", text)
    write_text(folder / "report.html", as_html(text, folder))
    return numbers


def as_markdown(
    results: Results,
    drawn: Collection[str],
    numbers: dict[str, Any],
    claims: list[dict[str, Any]],
    more: Sequence[str] = (),
) -> str:
    """The report as Markdown; images, those `drawn`, are named relative to it."""
    said = Counter(entry["verdict"] for entry in claims)
    return TEMPLATES.get_template("report.md.jinja").render(
        results=results,
        verdicts={verdict: said[verdict] for verdict in VERDICTS.values()},
        summary=table(numbers),
        final_rounds=FINAL_ROUNDS,
        figures=drawn,
        unreadable={n: json.dumps(c, ensure_ascii=False) for n, c in enumerate(results.classes) if readable(c) != c},
        claims=pd.DataFrame(claims, columns=["claim", "source", "found", "verdict"]),
        more=more,
        versions=numbers["versions"],
        parameters=_parameters(results),
    )


def as_html(text: str, folder: Path) -> str:
    """`text` as a page that needs no other file: images below `folder` become part of it."""

    def inline(match: re.Match) -> str:
        image = base64.b64encode((folder / html.unescape(match[1])).read_bytes()).decode()
        return f'src="data:image/png;base64,{image}"'

    body = markdown(text, extensions=["tables", "fenced_code"])
    for verdict in VERDICTS.values():
        body = body.replace(f"<td>{verdict}</td>", f'<td class="{verdict.replace(" ", "-")}">{verdict}</td>')
    page = TEMPLATES.get_template("page.html.jinja")
    return page.render(title=text.partition("\n")[0].lstrip("# "), body=re.sub(r'src="([^"]+)"', inline, body))


def _parameters(results: Results) -> pd.DataFrame:
    """What the cells ran with; a parameter that algorithms differ in shows each one's value."""
    users: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for cell in results.cells.values():
        for key, value in cell.run["parameters"].items():
            users[key][value if isinstance(value, str) else json.dumps(value)].append(shown(cell.algorithm))
    rows = []
    for key, values in users.items():
        shared = len(values) == 1 and len(*values.values()) == len(results.cells)
        texts = [text if shared else f"{text} ({', '.join(dict.fromkeys(names))})" for text, names in values.items()]
        rows.append({"parameter": f"`{key}`", "value": "; ".join(texts)})
    return pd.DataFrame(rows)[lambda table: ~table["parameter"].isin(["`algorithm`", "`alpha`"])]


def _table(frame: pd.DataFrame, numbers_from: int | None = None) -> str:
    """`frame` of texts as Markdown; columns from `numbers_from` on are aligned to the right."""
    left = len(frame.columns) if numbers_from is None else numbers_from
    rows = [list(frame), ["---"] * left + ["---:"] * (len(frame.columns) - left)]
    rows += [[_plain(cell).replace("|", r"\|") for cell in row] for row in frame.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _plain(text: str) -> str:
    """`text` as Markdown that shows it as it stands, but for what is `code`."""
    parts = re.split("(`[^`]*`)", text)
    marks = re.compile(r"[\\*_<>&$~`|]|\](?=[(\[:])")
    return "".join(p if p.startswith("`") else marks.sub(lambda mark: f"&#{ord(mark[0])};", p) for p in parts)


def _listed(numbers: Iterable[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)


TEMPLATES.filters |= {"listed": _listed, "plain": _plain, "shown": shown, "table": _table}
