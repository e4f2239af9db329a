"""Write the best values that `make tune` has found into the experiment's section of params.yaml."""

import argparse

from fedmpq.errors import UserError
from fedmpq.reporting.tuning import read
from fedmpq.tuning.apply import apply
from pipeline import command


@command.entry
def main(arguments: list[str] | None = None) -> None:
    """Write, and say what has changed."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.tune_apply", description=__doc__)
    parser.add_argument("--experiment", metavar="NAME", help="a section of params.yaml (default: tune.experiment)")
    parser.add_argument("--trial", type=int, metavar="NUMBER", help="another trial than the best one, see best.yaml")
    options = parser.parse_args(arguments)
    parameters = command.parameters()
    name = options.experiment or (parameters.tune and parameters.tune.experiment)
    parameters.experiment(name)
    changes = apply(command.ROOT / "params.yaml", name, values(name, options.trial))
    for key, (old, new) in changes.items():
        print(f"{key}: {old} -> {new}")
    if changes:
        print("Compare: dvc params diff. Train what depends on it: dvc repro")
    else:
        print("params.yaml has these values already")


def values(name: str, trial: int | None) -> dict:
    """The values, by dotted key, of the best trial or of `trial`.

    Raises:
        UserError: nothing was found yet, or there is no such trial.
    """
    folder = command.ROOT / "reports" / name / "tuning"
    found = read(folder)
    if found is None:
        raise UserError(f"{folder} holds no best values; find some with: make tune EXPERIMENT={name}")
    kept = {found.best["trial"]: found.best, **found.best["others"]}
    if trial is None:
        return found.best["values"]
    if trial not in kept:
        raise UserError(f"--trial {trial} is not allowed; allowed: {', '.join(map(str, kept))}, the best ones")
    return kept[trial]["values"]


if __name__ == "__main__":
    main()
