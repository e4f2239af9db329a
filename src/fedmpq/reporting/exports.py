"""What `make export` has written, as a section of the report."""

import json
from pathlib import Path

import pandas as pd

from fedmpq.errors import UserError
from fedmpq.reporting.results import shown


def section(folder: Path) -> list[str]:
    """The table of the models in exports/<experiment>/: budget, bytes, accuracy; empty where there are none.

    Raises:
        UserError: a model.json is damaged.
    """
    rows = []
    for path in sorted(folder.rglob("model.json")):
        try:
            about = json.loads(path.read_text())
            size, accuracy = about["bytes"], about["accuracy"]
            row = {"algorithm": shown(about["algorithm"]), "alpha": about["alpha"], "seed": about["seed"]}
            row["budget"] = f"[{about['budget']:g}](../../{path.parent.relative_to(folder.parents[1])})"
            for name in ("model.onnx", "model.fmpq", "float32"):
                row[f"{name}, bytes"] = f"{size[name]:,}" if name in size else "-"
            row["accuracy on the device"], row["in float32"] = (f"{accuracy[w]:.1%}" for w in ("PyTorch", "float32"))
            rows.append(row)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged ({error!r}); make it anew with: make export") from error
    return ["## Exported models", pd.DataFrame(rows).to_markdown(index=False)] if rows else []
