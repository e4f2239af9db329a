"""The report of an experiment: report.md, the same as one report.html, and its numbers as JSON."""

import base64
import html
import json
import re
from collections.abc import Collection, Iterable
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown import markdown

from fedmpq.config import Parameters
from fedmpq.engine.results import FINAL_ROUNDS, Row
from fedmpq.files import replacing, write_json, write_text
from fedmpq.reporting import benchmarks, exports, figures, markup
from fedmpq.reporting.claims import VERDICTS, evaluate
from fedmpq.reporting.figures import readable
from fedmpq.reporting.results import PARTITIONS, Results, keep_partitions, load, shown
from fedmpq.reporting.summary import summarize, table

# The templates are of this package, and what is not comes through `plain`.
TEMPLATES = Environment(
    loader=PackageLoader(__package__, ""), trim_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined
)
TEMPLATES.filters |= {"plain": markup.plain, "shown": shown, "table": markup.table}
TEMPLATES.filters["listed"] = lambda numbers: ", ".join(f"{number:g}" for number in numbers)


def write(root: Path, parameters: Parameters, experiment: str) -> Row:
    """Write reports/<experiment>/ below `root` from its results; leaves other files there alone.

    Returns:
        What summary.json holds.

    Raises:
        UserError: there is no such experiment, it has no results, or a file of them is broken.
    """
    results = load(root, parameters, experiment)
    folder = root / "reports" / experiment
    drawn, numbers, claims = figures.draw_all(results), summarize(results), evaluate(results)
    searches = [path.read_text() for path in folder.glob("tuning/section.md")]  # which `make tune` has written
    more = (
        exports.section(root / "exports" / experiment)
        + searches
        + benchmarks.section(folder.parent / "benchmarks.json")
    )
    text = as_markdown(results, drawn, numbers, claims, more)
    with replacing(folder / "figures") as temporary:
        temporary.mkdir()
        for name, figure in drawn.items():
            figures.save(figure, temporary / f"{name}.png")
    keep_partitions(results, folder / PARTITIONS)
    write_json(folder / "summary.json", numbers)
    write_json(folder / "claims.json", claims)
    write_text(folder / "report.md", text)
    write_text(folder / "report.html", as_html(text, folder))
    return numbers


def as_markdown(
    results: Results, drawn: Collection[str], numbers: Row, claims: list[Row], more: Iterable[str] = ()
) -> str:
    """The report as Markdown; images, those `drawn`, are named relative to it."""
    said = [entry["verdict"] for entry in claims]
    return TEMPLATES.get_template("report.md.jinja").render(
        results=results,
        verdicts={verdict: said.count(verdict) for verdict in VERDICTS.values()},
        summary=table(numbers),
        final_rounds=FINAL_ROUNDS,
        figures=drawn,
        unreadable={n: json.dumps(c, ensure_ascii=False) for n, c in enumerate(results.classes) if readable(c) != c},
        claims=pd.DataFrame(claims, columns=["claim", "source", "found", "verdict"]),
        more=more,
        numbers=numbers,
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
    names = pd.Series([shown(run["algorithm"]) for run in results.runs])
    values, rows = pd.DataFrame([_texts(run["parameters"]) for run in results.runs]), []
    for key, texts in values.drop(columns=["algorithm", "alpha"]).items():
        users = names.groupby(texts, sort=False).agg(lambda found: ", ".join(found.unique()))
        differ = len(users) > 1 or texts.isna().any()
        each = [f"{text} ({found})" if differ else text for text, found in users.items()]
        rows.append({"parameter": f"`{key}`", "value": "; ".join(each)})
    return pd.DataFrame(rows)


def _texts(parameters: Row) -> dict[str, str]:
    """`parameters` as one would write them in YAML."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in parameters.items()}
