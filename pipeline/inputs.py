"""List what an experiment is made of, by name and digest: data/inputs/<experiment>/.

raw.json: the files of its data set. <algorithm>.json: the source files that determine results of that algorithm.
"""

from pathlib import Path

from ruamel.yaml import YAML

from fedmpq.data.sources import above_raw
from fedmpq.engine.method import method_files
from fedmpq.errors import UserError
from fedmpq.files import replacing, sha256, write_json
from pipeline import command


def code(files: dict[str, Path], watched: list[Path]) -> dict[str, str]:
    """Digest of each of `files`, which are as `method_files` returns them.

    Raises:
        UserError: a file of the project is not among or below `watched`, whose changes DVC notices.
    """
    for file in files.values():
        if file.is_relative_to(command.ROOT) and not any(map(file.is_relative_to, watched)):
            advice = "move it to extensions/, or add it to the dependencies of stage inputs in dvc.yaml"
            raise UserError(f"{file.relative_to(command.ROOT)} is not watched by DVC; {advice}")
    return {module: sha256(file) for module, file in files.items()}


def raw(folder: Path) -> dict[str, str]:
    """Digest of each file below `folder`, which need not be there."""
    return {file.relative_to(folder).as_posix(): sha256(file) for file in sorted(folder.rglob("*")) if file.is_file()}


@command.entry
def main(arguments: list[str] | None = None) -> None:
    """Run the stage."""
    name = command.experiment_option("inputs", __doc__, arguments)
    parameters = command.parameters()
    experiment = parameters.experiment(name)
    source = experiment.data.source
    stages = YAML(typ="safe", pure=True).load(command.ROOT / "dvc.yaml")["stages"]
    watched = [command.ROOT / place for place in stages["inputs"]["deps"]]
    with replacing(command.ROOT / "data" / "inputs" / name) as temporary:
        temporary.mkdir()
        write_json(temporary / "raw.json", raw(above_raw(command.ROOT, source) / "raw" / source))
        for algorithm in parameters.algorithms:
            files = method_files(experiment.algorithm(algorithm).of, experiment.model.network)
            write_json(temporary / f"{algorithm}.json", code(files, watched))


if __name__ == "__main__":
    main()
