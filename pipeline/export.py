"""Export a trained model as a device runs it: exports/<experiment>/<algorithm>/alpha-<alpha>/seed-<seed>/budget-<b>."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fedmpq.config import MAX_BITS
from fedmpq.errors import UserError
from pipeline import command


@command.entry
def main(arguments: list[str] | None = None) -> None:
    """Export, and say what it is worth."""
    options = _parser().parse_args(arguments)
    parameters = command.parameters()
    experiment = parameters.experiment(options.experiment).at(options.alpha)
    experiment.algorithm(options.algorithm)
    budget, seed = _budget(experiment.model.budgets, options), _seed(experiment.partition.seeds, options.seed)
    from fedmpq.engine.cell import Cell
    from fedmpq.export.write import export
    from fedmpq.tracking import Training, fetch_model, register
    from pipeline.report import renew

    cell = Cell.of(command.ROOT, parameters, options.experiment, options.algorithm, options.alpha)
    place = f"exports/{cell.name}/{cell.algorithm}/alpha-{cell.alpha_label}/seed-{seed}/budget-{budget:g}"
    names = (cell.name, cell.algorithm, cell.alpha_label, seed)
    training = Training(*names, cell.flat_parameters, fingerprint=cell.fingerprint)
    choices = options.calibrate, options.differing
    with TemporaryDirectory() as temporary:
        model = options.checkpoint or fetch_model(command.ROOT, training, Path(temporary)) / "model.pt"
        about = export(cell, seed, model, budget, options.format, command.ROOT / place, *choices)
    print("\n".join([f"{place}:", *_lines(about)]))
    renew(parameters)
    if options.register:
        print("registered in MLflow: {}, version {}".format(*register(command.ROOT, training)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipeline.export", description=__doc__)
    parser.add_argument("--experiment", required=True, metavar="NAME", help="a section of params.yaml")
    parser.add_argument("--algorithm", required=True, metavar="NAME", help="a section of the experiment")
    parser.add_argument("--alpha", required=True, type=float, help="Dirichlet concentration of the partition")
    device = parser.add_mutually_exclusive_group(required=True)
    device.add_argument("--budget", type=float, help="average bits per weight that the device can hold")
    device.add_argument("--client", type=int, help="the client, from 0, whose budget it is")
    parser.add_argument("--seed", type=int, help="default: the first one of the experiment")
    parser.add_argument(
        "--calibrate",
        type=command.count(0),
        metavar="N",
        help="clients measure statistics of batch norm on N images each (default: as in training)",
    )
    parser.add_argument(
        "--differing",
        type=command.count(0),
        metavar="N",
        help="test images that ONNX Runtime may classify otherwise than PyTorch (default: 0.1 %% of them, or one)",
    )
    parser.add_argument("--format", choices=["onnx", "packed"], help="default: both")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--checkpoint", type=Path, metavar="FILE", help="model.pt (default: that of the run in MLflow)")
    source.add_argument("--register", action="store_true", help="give the run's model a version in MLflow's registry")
    return parser


def _budget(budgets: list[float], options: argparse.Namespace) -> float:
    if options.client is None:
        if not 1 <= options.budget <= MAX_BITS:
            raise UserError(f"--budget {options.budget:g} is not allowed; allowed: 1 to {MAX_BITS}")
        return options.budget
    if not 0 <= options.client < len(budgets):
        raise UserError(f"--client {options.client} is not allowed; allowed: 0 to {len(budgets) - 1}")
    return budgets[options.client]


def _seed(seeds: list[int], chosen: int | None) -> int:
    if chosen not in (None, *seeds):
        raise UserError(
            f"--seed {chosen} is not allowed; allowed: {', '.join(map(str, seeds))}, those of the experiment"
        )
    return seeds[0] if chosen is None else chosen


def _lines(about: dict[str, Any]) -> Iterator[str]:
    """Accuracy and speed of each way to run the model, then the sizes of the files."""
    for name, accuracy in about["accuracy"].items():
        yield f"  {name:12}  accuracy {accuracy:.4f}  {about['milliseconds'][name]:.3f} ms an image"
    for name, size in about["bytes"].items():
        yield f"  {name:12}  {size:,} bytes, {size / about['bytes']['float32']:.1%}"


if __name__ == "__main__":
    main()
