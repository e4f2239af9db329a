"""Write the best values that `make tune` has found into the experiment's section of params.yaml."""

import argparse

from fedmpq.errors import UserError
from fedmpq.tuning.apply import apply
from fedmpq.tuning.study import read_best
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
    trials = read_best(command.ROOT / "reports" / name / "tuning" / "best.yaml")
    number = next(iter(trials)) if options.trial is None else options.trial
    if number not in trials:
        raise UserError(f"--trial {number} is not allowed; allowed: {', '.join(map(str, trials))}, the best ones")
    changes = apply(command.ROOT / "params.yaml", name, trials[number])
    for key, (old, new) in changes.items():
        print(f"{key}: {old} -> {new}")
    if changes:
        print("Compare: dvc params diff. Train what depends on it: dvc repro")
    else:
        print("params.yaml has these values already")


if __name__ == "__main__":
    main()
