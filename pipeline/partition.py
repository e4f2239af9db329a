"""Divide an experiment's training images among its clients: data/partitions/<experiment>/alpha-<alpha>/."""

from fedmpq.config import Parameters
from fedmpq.engine.inputs import arrays, make_partitions
from fedmpq.files import replacing
from pipeline import command

FIGURE_ALPHAS = (0.1, 0.5, 5)
"""Shown in the report whether or not they are trained; there a client may be left with few images."""


@command.entry
def main(arguments: list[str] | None = None) -> None:
    """Run the stage."""
    write(command.parameters(), command.experiment_option("partition", __doc__, arguments))


def write(parameters: Parameters, name: str) -> None:
    """Divide the images of experiment `name` at each alpha of `parameters` and those of the figure."""
    experiment = parameters.experiment(name)
    data = arrays(command.ROOT, name, experiment.data)
    with replacing(command.ROOT / "data" / "partitions" / name) as temporary:
        for alpha in sorted({*parameters.alphas, *FIGURE_ALPHAS}):
            label, trained = parameters.alpha_label(alpha), alpha in parameters.alphas
            typical = make_partitions(experiment.at(alpha), alpha, data, temporary / f"alpha-{label}", trained)
            if trained:
                print(f"{name}, alpha {label}: 90 % of a client's images are of {typical:g} classes (median)")


if __name__ == "__main__":
    main()
