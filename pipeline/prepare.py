"""Decode an experiment's data set into memory-mapped arrays: data/prepared/<experiment>/."""

from fedmpq.config import Parameters
from fedmpq.engine.inputs import make_arrays
from fedmpq.files import replacing
from pipeline import command


@command.entry
def main(arguments: list[str] | None = None) -> None:
    """Run the stage."""
    write(command.parameters(), command.experiment_option("prepare", __doc__, arguments))


def write(parameters: Parameters, name: str) -> None:
    """Decode the images of experiment `name`."""
    data = parameters.experiment(name).data
    with replacing(command.ROOT / "data" / "prepared" / name) as temporary:
        print(f"{name}: {make_arrays(command.ROOT, data, temporary)}")


if __name__ == "__main__":
    main()
