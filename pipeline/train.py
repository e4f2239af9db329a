"""Train one algorithm at one alpha, for each seed: results/<experiment>/<algorithm>/alpha-<alpha>/."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fedmpq.config import Execution, Experiment, parse_overrides
from fedmpq.engine import processes
from fedmpq.errors import UserError
from fedmpq.files import exclusive
from pipeline import command
from pipeline.progress import Progress, outline, title

if TYPE_CHECKING:
    from fedmpq.engine.cell import Cell
    from fedmpq.engine.seed_run import SeedRun


@command.entry
def main(arguments: list[str] | None = None) -> None:
    """Run the stage."""
    options = _parser().parse_args(arguments)
    parameters = command.parameters(parse_overrides(options.set, options.experiment))
    refuse_idle(options.set, parameters.experiment(options.experiment), options.algorithm)
    if parameters.execution.executor == "processes":
        processes.start_importing()
    # Imported here: the parameters are checked, and the workers import too, while this takes seconds.
    from fedmpq.engine.cell import Cell

    cell = Cell.of(command.ROOT, parameters, options.experiment, options.algorithm, options.alpha)
    folder = Path("results", cell.name, cell.algorithm, f"alpha-{cell.alpha_label}")
    out = options.out or command.ROOT / folder
    refuse_strangers(out)
    if options.confirm:
        from fedmpq.engine.confirm import confirm

        with exclusive(cell.lock_file(out), f"{out}"):
            confirm(cell, parameters.execution, out, options.confirm)
        print(f"{title(cell)}: the first rounds come out the same ({options.confirm}); {out} is confirmed")
        return
    held = [] if options.overwrite else seeds_held(cell, out)
    if held == cell.experiment.partition.seeds:
        print(f"{title(cell)}: done already, the results are in {out}; --overwrite trains it again")
        return
    with exclusive(cell.lock_file(out), f"{out}"):
        train(cell, parameters.execution, out, held)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.train",
        description=__doc__,
        epilog="example: python -m pipeline.train --experiment digits --algorithm fedmpq --alpha 0.5"
        " --set training.rounds=3 --set fedmpq.lambda=0.3 --out results/try",
    )
    parser.add_argument("--experiment", required=True, metavar="NAME", help="a section of params.yaml")
    parser.add_argument("--algorithm", required=True, metavar="NAME", help="a section of it: fp32, fpq8, fedmpq, ...")
    parser.add_argument("--alpha", required=True, type=float, help="Dirichlet concentration of the partition")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a parameter of the section"
    )
    parser.add_argument("--out", type=Path, help="folder of the results (default: under results/)")
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument("--overwrite", action="store_true", help="replace results that are there")
    whose.add_argument(
        "--confirm",
        type=command.count(1),
        metavar="N",
        help="results of earlier code stay valid if the first N rounds come out the same to the last digit",
    )
    return parser


def refuse_idle(assignments: list[str], experiment: Experiment, algorithm: str) -> None:
    """Raise UserError for an override that a training by `algorithm` does not read."""
    own, others = experiment.algorithm(algorithm), experiment.algorithms.keys() - {algorithm}
    for assignment in assignments:
        key = assignment.partition("=")[0].strip()
        idle = key == "data.validation" or key.partition(".")[0] in others
        elsewhere = {
            "model.quantizer": own.quantizer and f"{algorithm}.quantizer",
            "partition.more_seeds": "partition.seeds",
        }
        if idle or elsewhere.get(key):
            instead = "" if idle else f", it has {elsewhere[key]}"
            raise UserError(f"--set {assignment}: a training by {algorithm} does not read {key}{instead}")


def refuse_strangers(out: Path) -> None:
    """Raise UserError if `out`, which results would replace as a whole, holds anything that is none."""
    from fedmpq.engine.results import FILES

    if others := [path.name for path in out.glob("*") if path.name not in FILES]:
        raise UserError(f"{out} holds other files, {min(others)} for one; name another --out")


def seeds_held(cell: "Cell", out: Path) -> list[int]:
    """The seeds of `cell` that `out` holds results of. Raises UserError if these are of other seeds or parameters."""
    from fedmpq.engine.results import FILES, read_run

    there = [(out / name).exists() for name in FILES]
    if not any(there):
        return []
    found, seeds = read_run(out), cell.experiment.partition.seeds
    held = [seed for seed in seeds if seed in found["seeds"]]
    if held != found["seeds"] or found["fingerprint"] != cell.fingerprint_of(held):
        theirs, ours = found["parameters"], cell.flat_parameters
        if held != found["seeds"]:
            theirs, ours = theirs | {"partition.seeds": found["seeds"]}, ours | {"partition.seeds": seeds}
        keys = [key for key in sorted(theirs | ours) if theirs.get(key) != ours.get(key)]
        changes = ", ".join(f"{key} {theirs.get(key)} -> {ours.get(key)}" for key in keys)
        difference = changes or "the code, the partition or the arithmetic"
        instead = "" if changes else ", or, if the code should give the same, --confirm 2"
        raise UserError(
            f"{out} holds results of other parameters ({difference}); name another --out, or --overwrite{instead}"
        )
    return held if all(there) else []


def train(cell: "Cell", execution: Execution, out: Path, held: list[int]) -> None:
    """Train all seeds of `cell` but those `held` by `out`, log them, and write the results there once all are there."""
    from fedmpq.engine.checkpoint import clear
    from fedmpq.engine.seed_run import SeedRun, write_results
    from fedmpq.tracking import seal

    runs = [SeedRun(cell, seed) for seed in cell.experiment.partition.seeds if seed not in held]
    print(outline(cell, execution), flush=True)
    for index, run in enumerate(runs):
        later = sum(cell.experiment.training.rounds - other.done for other in runs[index + 1 :])
        with run.lock():
            train_seed(run, execution, later)
    write_results(runs, execution, out, held)
    from fedmpq.reporting.figures import bits_heat_map

    seal(command.ROOT, out, bits_heat_map)
    for run in runs:
        clear(run.folder)


def train_seed(run: "SeedRun", execution: Execution, later: int) -> None:
    """Run the rounds of one seed that are left, and log them; `later` rounds, of other seeds, will follow."""
    from fedmpq.export.packed import pack_float32
    from fedmpq.federated.server import Federation
    from fedmpq.tracking import Run, Training, round_metrics

    cell, rounds = run.cell, run.cell.experiment.training.rounds
    digests = cell.partition_hash(run.seed), cell.fingerprint
    training = Training(cell.name, cell.algorithm, cell.alpha_label, run.seed, cell.flat_parameters, *digests)
    progress = Progress(f"{title(cell)} seed {run.seed}", run.done, rounds, later)
    with Run(command.ROOT, training) as tracked, progress:
        for row, bits in run.past():  # What MLflow missed; it skips what it holds.
            tracked.log_round(round_metrics(row, bits), row["round"])
        for row, bits in run.rounds(execution):
            tracked.log_round(round_metrics(row, bits), row["round"])
            progress.show(row)
        tracked.log_file(run.model_file, "model")
        tracked.log_file(run.consensus_file, "model")
        setup = cell.setup(run.seed)
        content = pack_float32(Federation(setup, executor=None), run.last.state)
        tracked.log_model(content, setup.dataset.classes, setup.dataset.test_images[:2])


if __name__ == "__main__":
    main()
