"""List the source files that determine the results of each algorithm: data/code/<experiment>/<algorithm>.json."""

from pathlib import Path

from ruamel.yaml import YAML

from fedmpq.engine.method import method_files
from fedmpq.errors import UserError
from fedmpq.files import replacing, sha256, write_json
from pipeline import command


def listed(files: dict[str, Path], watched: list[Path]) -> dict[str, str]:
    """Digest of each of `files`, which are as `method_files` returns them.

    Raises:
        UserError: a file of the project is not among or below `watched`, whose changes DVC notices.
    """
    for file in files.values():
        if file.is_relative_to(command.ROOT) and not any(file.is_relative_to(place) for place in watched):
            raise UserError(
                f"{file.relative_to(command.ROOT)} is not watched by DVC; move it to extensions/, or add it to the"
                " dependencies of stage code in dvc.yaml"
            )
    return {module: sha256(file) for module, file in files.items()}


@command.entry
def main(arguments: list[str] | None = None) -> None:
    """Run the stage."""
    name = command.experiment_option("code", __doc__, arguments)
    parameters = command.parameters()
    network = parameters.experiment(name).model.network
    stages = YAML(typ="safe", pure=True).load(command.ROOT / "dvc.yaml")["stages"]
    watched = [command.ROOT / place for place in stages["code"]["deps"]]
    with replacing(command.ROOT / "data" / "code" / name) as temporary:
        temporary.mkdir()
        for algorithm in parameters.algorithms:
            files = method_files(algorithm, network)
            write_json(temporary / f"{algorithm}.json", listed(files, watched))


if __name__ == "__main__":
    main()
