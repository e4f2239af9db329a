"""What `make export` has written, as a table and as a section of the report."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from fedmpq.errors import UserError
from fedmpq.reporting.results import shown


def section(folder: Path) -> list[str]:
    """The table of the models in exports/<experiment>/, with its title; empty where there are none."""
    rows = table(folder.rglob("model.json"), folder.parents[1] / "reports" / folder.name)
    return [] if rows.empty else ["## Exported models", rows.to_markdown(index=False)]


def table(cards: Iterable[Path], page: Path) -> pd.DataFrame:
    """Budget, bytes and accuracy of models, by the paths of their model.json, with links for a page in folder `page`.

    Raises:
        UserError: a model.json is damaged.
    """
    rows = []
    for path in sorted(cards):
        try:
            about = json.loads(path.read_text())
            size, accuracy = about["bytes"], about["accuracy"]
            row = {"algorithm": shown(about["algorithm"]), "alpha": f"{about['alpha']:g}", "seed": f"{about['seed']}"}
            row["budget"] = f"[{about['budget']:g}]({os.path.relpath(path.parent, page)})"
            for name in ("model.onnx", "model.fmpq", "float32"):
                row[f"{name}, bytes"] = f"{size[name]:,}" if name in size else "-"
            row["accuracy on the device"], row["in float32"] = (f"{accuracy[w]:.1%}" for w in ("PyTorch", "float32"))
            rows.append(row)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged ({error!r}); make it anew with: make export") from error
    return pd.DataFrame(rows)
