"""What all experiments show together: reports/README.md, and what the README says of results, between two marks.

reports/dvc.yaml names the results to DVC, whose stages know those of the default run alone.
"""

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import product
from pathlib import Path

import matplotlib as mpl
import pandas as pd

from fedmpq.config import Parameters
from fedmpq.engine.results import FINAL_ROUNDS, Row
from fedmpq.errors import UserError
from fedmpq.files import write_text
from fedmpq.reporting import exports, figures, markup
from fedmpq.reporting.claims import NotRun, compare, evaluate
from fedmpq.reporting.report import TEMPLATES
from fedmpq.reporting.results import Results, load, shown
from fedmpq.reporting.summary import summarize, table

MARKS = ("<!-- results -->\n", "<!-- /results -->\n")
PICTURE = "docs/accuracy.png"
PICTURED, ABLATION = "cifar10-small", "cifar10-ablation"
LOCAL = ("digits",)  # everyone makes their own; its report is not in git
DRAWN = ("fp32", "fpq8", "aqfl", "fedmpq", "fedmpq_plus")
COMPARED = ("fpq8", "fedmpq", "fedmpq_plus")
COLUMNS = ["alpha", "algorithm", "seeds", "accuracy (%)", "on devices (%)", "bits"]
VARIED = {
    "of": "rule",
    "aggregation": "average of",
    "uplink": "sent",
    "model.quantizer": "levels",
    "lambda": "lambda",
    "calibration": "calibration images",
}
"""What the variants of an ablation differ in, and its headings."""
FIGURES = [
    ("1, 2", "images of each label on each client, at alpha 0.1, 0.5, 5", "partitions"),
    (
        "3, 4",
        "bits of each layer for budgets 2, 4, 6 after the last round (ResNet-20, ResNet-44)",
        "bits-per-layer-alpha-*",
    ),
    ("5 to 7", "accuracy over rounds (CIFAR-10, CIFAR-100, Tiny-ImageNet)", "accuracy-over-rounds"),
]
"""Of the paper's supplement: number, what is shown, and the files here."""


def committed(root: Path, parameters: Parameters) -> dict[str, Parameters]:
    """`parameters` for each experiment that has results in git, with the algorithms and alphas that those are of.

    Raises:
        UserError: `root` is no checkout.
    """
    cells = [path.split("/")[1:4] for path in _in_git(root, "results/*/run.json") if path.count("/") == 4]
    found = {}
    for name, section in parameters.sections.items():
        own = [(algorithm, label) for experiment, algorithm, label in cells if experiment == name]
        algorithms = [algorithm for algorithm in section.algorithms if algorithm in dict(own)]
        alphas = sorted({json.loads(label.removeprefix("alpha-")) for _, label in own})  # 1 and 1.0 as folders have it
        if algorithms and name not in LOCAL:
            found[name] = parameters.model_copy(update={"algorithms": algorithms, "alphas": alphas})
    return found


def _in_git(root: Path, pattern: str) -> list[str]:
    try:
        command = ["git", "ls-files", "-z", pattern]
        listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(f"git does not say which files of {root} are committed: {error}") from error
    return listed.split("\0")[:-1]


def read(root: Path, parameters: Parameters) -> dict[str, Results]:
    """The results of each experiment that are committed below `root`; UserError for a file that is broken."""
    return {name: load(root, own, name) for name, own in committed(root, parameters).items()}


def write(root: Path, found: dict[str, Results]) -> None:
    """Write reports/README.md, the README's block and its picture, once the reports of the experiments are there."""
    for path, text in texts(root, found).items():
        write_text(path, text)
    if found:
        with mpl.rc_context(figures.LITERAL):
            figures.save(figures.accuracy_over_rounds(pictured(found)), root / PICTURE)


def texts(root: Path, found: dict[str, Results]) -> dict[Path, str]:
    """What each file is to hold; raises UserError if the README lacks a mark."""
    readme = root / "README.md"
    before, _, rest = readme.read_text().partition(MARKS[0])
    _, closing, after = rest.partition(MARKS[1])
    if not closing:
        raise UserError(f"{readme} has no lines {' and '.join(map(str.strip, MARKS))}, between which results go")
    entries = {name: evaluate(results) for name, results in found.items()}
    reached = side_by_side({name: own for name, own in found.items() if name != ABLATION}, DRAWN, "vs FPQ8")
    values = {
        "found": found,
        "claims": claims_table(entries),
        "short": claims_in_short(found, entries),
        "reached": reached[reached["accuracy (%)"] != "missing"],  # of which the page has a list
        "plus": side_by_side(found, COMPARED, "of weights", "vs FPQ8", "vs FedMPQ", "up (kB)", "down (kB)"),
        "figures": figures_table(root, found),
        "ablation": ablation_table(found.get(ABLATION)),
        "gains": {other: gains(found, other) for other in COMPARED[:-1]},
        "models": exports.table((root / path for path in _in_git(root, f"exports/{PICTURED}/*/model.json")), root),
        "pictured": pictured(found),
        "picture": PICTURE,
        "final_rounds": FINAL_ROUNDS,
    }
    values |= {"setting": setting, "missing": missing, "literal": str}
    page, block = (TEMPLATES.get_template(f"{name}.md.jinja").render(values) for name in ("overview", "readme"))
    files = {root / "reports/README.md": page, readme: before + MARKS[0] + block + MARKS[1] + after}
    return files | ({root / "reports/dvc.yaml": for_dvc(found)} if found else {})


def for_dvc(found: dict[str, Results]) -> str:
    """A dvc.yaml by which `dvc metrics` and `dvc plots` show the cells and the curves of each experiment."""
    cells = [
        f"../results/{name}/{algorithm}/alpha-{alpha}" for name, own in found.items() for algorithm, alpha in own.cells
    ]
    look = "{x: round, y: test_accuracy, template: accuracy"
    curves = [f'- curves/{name}.csv: {look}, title: "{name}, mean over seeds"}}\n' for name in found]
    metrics = "".join(f"- {cell}/metrics.json\n" for cell in cells)
    return f"metrics:\n{metrics}plots:\n{''.join(curves)}"


def claims_table(entries: dict[str, list[Row]]) -> pd.DataFrame:
    """The verdict on each claim for each experiment, with its number and a link to the report."""
    columns = {
        name: [
            f"[{e['verdict']}]({name}/report.md#the-papers-claims){': ' * bool(e['short'])}{e['short']}" for e in own
        ]
        for name, own in entries.items()
    }
    return pd.DataFrame({"the paper's claim": _claims(entries)} | columns)


def claims_in_short(found: dict[str, Results], entries: dict[str, list[Row]]) -> pd.DataFrame:
    """The verdicts alone, and the points that FedMPQ+ gains."""
    others = list(product(COMPARED[:-1], (False, True)))
    columns = {
        f"[{name}](reports/{name}/report.md)": [_brief(e) for e in own]
        + [_gain(found[name], *other) for other in others]
        for name, own in entries.items()
    }
    named = [f"FedMPQ+ minus {shown(other)}{', on devices' * devices}, points" for other, devices in others]
    rows = _claims(entries) + named
    return pd.DataFrame({"the paper's claim": rows} | columns)


def gains(found: dict[str, Results], other: str) -> list[float]:
    """Points by which FedMPQ+ ends above `other`, in each experiment and at each alpha that has both."""
    points = []
    for results in found.values():
        with suppress(NotRun):
            points += compare(results, "fedmpq_plus", other)[0]
    return points


def side_by_side(found: dict[str, Results], algorithms: tuple[str, ...], *more: str) -> pd.DataFrame:
    """What `algorithms` reach in each experiment and at each alpha, with `more` columns."""
    columns = [*COLUMNS, *more]
    frames = [_rows(results, algorithms, columns).assign(experiment=name) for name, results in found.items()]
    return pd.concat([pd.DataFrame(columns=["experiment", *columns]), *frames]).astype(object).fillna("-")


def ablation_table(results: Results | None) -> pd.DataFrame:
    """Every algorithm and variant, what it is made of, and its difference to FPQ8."""
    if results is None:
        return pd.DataFrame()
    made = pd.DataFrame([run["parameters"] for run in results.runs]).reindex(columns=["alpha", "algorithm", *VARIED])
    named = {key: made[key].map(shown) for key in ("algorithm", "of")}
    named |= {key: made[key].map("{:g}".format, na_action="ignore") for key in ("alpha", "calibration")}
    made = made.assign(**named).rename(columns=VARIED)
    rows = _rows(results, results.algorithms, [*COLUMNS, "vs FPQ8"]).merge(made, on=["alpha", "algorithm"])
    return rows.astype(object).fillna("-").astype(str)


def figures_table(root: Path, found: dict[str, Results]) -> pd.DataFrame:
    """Where the figures of the paper's supplement are."""
    rows = [
        {"figure": number, "shows": shows, "here": ", ".join(_links(root, found, pattern)) or "not run"}
        for number, shows, pattern in FIGURES
    ]
    return pd.DataFrame(rows)


def pictured(found: dict[str, Results]) -> Results | None:
    """The results whose accuracy the README draws: of PICTURED if it is there, at the alphas with most algorithms."""
    cells = [(name, *key) for name, results in found.items() for key in results.cells if key[0] in DRAWN]
    counts = Counter((name, alpha) for name, _, alpha in cells)
    if not counts:
        return None
    (name, _), most = max(counts.items(), key=lambda count: (count[0][0] == PICTURED, count[1]))
    results = found[name]
    alphas = [alpha for alpha in results.alphas if counts[name, alpha] == most]
    algorithms = [algorithm for algorithm in results.algorithms if algorithm in DRAWN]
    kept = {key: cell for key, cell in results.cells.items() if key[0] in algorithms and key[1] in alphas}
    return replace(results, algorithms=algorithms, alphas=alphas, cells=kept)


def setting(results: Results) -> str:
    """Data set, images, network, clients, rounds, seeds and hardware, as recorded with the results."""

    def of(key: str) -> str:
        values = dict.fromkeys(run["parameters"][key] for run in results.runs)
        return " or ".join("all" if v is None else f"{v:,}" if isinstance(v, int) else v for v in values)

    classes = [f"{table.shape[1] - 2} classes, " for table in results.partitions.values()][:1]
    parts = [
        f"{of('data.train_samples')} training and {of('data.test_samples')} test images of {of('data.source')}"
        f" ({''.join(classes)}{of('data.image_size')} pixels a side)",
        f"{of('model.network')}, {of('partition.clients')} clients",
        f"{results.duration} of {of('training.local_epochs')} epoch{'s' * (of('training.local_epochs') != '1')}",
        results.seeding,
        *results.hardware,
    ]
    return markup.plain("; ".join(parts))


def missing(results: Results) -> str:
    """The cells that are not there, of the algorithms and alphas of which some are."""
    cells = summarize(results)["missing"]
    return ", ".join(f"{shown(cell['algorithm'])} at alpha {cell['alpha']:g}" for cell in cells)


def _brief(entry: Row) -> str:
    """The verdict, and what it must not be read without."""
    doubts = {"1 seed": "1 seed" in entry["short"], "within noise": "within seed noise" in entry["found"]}
    return ", ".join([entry["verdict"], *filter(doubts.get, doubts)])


def _claims(entries: dict[str, list[Row]]) -> list[str]:
    return [markup.plain(entry["claim"]) for entry in next(iter(entries.values()), [])]


def _gain(results: Results, other: str, devices: bool) -> str:
    try:
        return compare(results, "fedmpq_plus", other, devices=devices)[2]
    except NotRun:
        return "not run"


def _rows(results: Results, algorithms: tuple[str, ...] | list[str], columns: list[str]) -> pd.DataFrame:
    """The rows of the summary table of `algorithms`, by alpha."""
    rows = table(summarize(results))
    rows = rows[rows["algorithm"].isin(map(shown, algorithms))]
    return rows.reindex(columns=columns).sort_values("alpha", key=lambda texts: texts.astype(float), kind="stable")


def _links(root: Path, found: dict[str, Results], pattern: str) -> Iterator[str]:
    for name in found:
        for path in sorted((root / "reports" / name / "figures").glob(f"{pattern}.png")):
            alpha = path.stem.partition("-alpha-")[2]
            yield f"[{name}{alpha and f' at alpha {alpha}'}]({name}/figures/{path.name})"
