"""Texts and tables as Markdown that shows them as they stand."""

import re
from collections.abc import Callable, Collection

import pandas as pd

MARKS = re.compile(r"[\\*_<>&$~`|]|\](?=[(\[:])")


def plain(text: str) -> str:
    """`text` with what Markdown and HTML would take for a mark escaped, but for what is `code`."""
    parts = re.split("(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else MARKS.sub(lambda mark: f"&#{ord(mark[0])};", p) for p in parts)


def table(frame: pd.DataFrame, right: Collection[str] = (), text: Callable[[str], str] = plain) -> str:
    """`frame` of texts, each put through `text`, the columns named in `right` aligned to the right."""
    rows = [list(frame), ["---:" if name in right else "---" for name in frame]]
    rows += [[text(cell).replace("|", r"\|") for cell in row] for row in frame.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
