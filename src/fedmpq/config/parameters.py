"""params.yaml as a whole: reading it, overriding it, and saying what is wrong with it."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML, YAMLError

from fedmpq.config.experiment import UNWRITTEN, Experiment
from fedmpq.config.settings import Name, Positive, Settings
from fedmpq.config.tune import Tune
from fedmpq.errors import UserError

TOP = ("experiments", "algorithms", "alphas", "execution", "tune")
"""What stands at the top of params.yaml beside `defaults` and the experiments."""
NO_KEYS = {(0, "sections"), (2, UNWRITTEN), (2, "float"), (2, "int"), (2, "[key]"), (4, "[key]"), (5, "[key]")}
"""Parts of pydantic's path to a fault that are no keys of params.yaml, with their place in it."""


class Execution(Settings):
    """How the work is carried out. Nothing here changes a result, so nothing becomes stale by it."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto: a GPU where there is one."""
    executor: Literal["sequential", "processes", "ray"] = "processes"
    """Clients of a round one after another, in a pool of single-threaded processes, or on a Ray cluster."""
    workers: Positive | None = None
    """At most so many workers, and no more than there are tasks, cores and memory for; null: that, but 4 on a GPU."""
    ray_address: str | None = None
    """Head of an existing Ray cluster; null: start one on this machine."""


class Parameters(Settings):
    """The whole of params.yaml: the three lists that span the matrix, and the sections."""

    experiments: Annotated[list[str], Field(min_length=1)]
    algorithms: Annotated[list[str], Field(min_length=1)]
    alphas: Annotated[list[Annotated[float | int, Field(gt=0)]], Field(min_length=1)]
    execution: Execution = Execution()
    tune: Tune | None = None
    sections: dict[Name, Experiment]

    @model_validator(mode="after")
    def _consistent(self) -> "Parameters":
        for name in self.experiments:
            for algorithm in self.algorithms:
                self.experiment(name).algorithm(algorithm)
        return self

    def experiment(self, name: str) -> Experiment:
        """The section called `name`.

        Raises:
            UserError: there is no such section.
        """
        if name not in self.sections:
            raise UserError(f"unknown experiment {name!r}; allowed: {', '.join(self.sections)}")
        return self.sections[name]

    def varied(self, name: str, values: dict[str, Any]) -> Experiment:
        """The section called `name` with other `values` by dotted key, checked as params.yaml is."""
        tree = self.experiment(name).tree()
        for key, value in values.items():
            _override(tree, key, value)
        return _validated(Experiment, tree, "sections", name)

    def alpha_label(self, alpha: float) -> str:
        """`alpha` as params.yaml writes it (0.5, 1 or 1.0), which is how folders are named.

        Raises:
            UserError: it is no positive, finite Dirichlet concentration.
        """
        if not 0 < alpha < float("inf"):
            raise UserError(f"alpha: {alpha} is not allowed; allowed: a number above 0")
        return next((str(a) for a in self.alphas if a == alpha), f"{alpha:g}")


def load_parameters(path: Path, overrides: dict[str, Any] | None = None) -> Parameters:
    """Read and check params.yaml.

    Args:
        path: the file.
        overrides: dotted keys and their values, e.g. `{"digits.fedmpq.lambda": 0.1}`.

    Raises:
        UserError: the file is missing or no YAML, or a key is unknown, of a wrong type or out of
            range; the message names the file, the key, the value and what is allowed.
    """
    tree = _read(path)
    try:
        for key, value in (overrides or {}).items():
            _override(tree, key, value)
        if "defaults" in tree:
            _validated(Experiment, tree.pop("defaults"), "sections", "defaults", complete=False)
        top = {key: tree.pop(key) for key in TOP if key in tree}
        return _validated(Parameters, {**top, "sections": tree})
    except UserError as error:
        raise UserError(f"{path.name}: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, YAMLError) as error:
        raise UserError(f"{path.name} is no valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{path.name} holds no parameters; see the README for its layout")
    return tree


def parse_overrides(assignments: list[str], section: str) -> dict[str, Any]:
    """`["training.rounds=3"]` as dotted keys with YAML values, below `section` unless they are of `execution`."""
    overrides = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        try:
            value = YAML(typ="safe", pure=True).load(text)
        except YAMLError:
            equals = ""
        if not equals:
            raise UserError(f"override {assignment!r}: allowed: KEY=VALUE in YAML, e.g. 'partition.seeds=[0, 1]'")
        key = key.strip()
        overrides[key if key.startswith("execution.") else f"{section}.{key}"] = value
        if key == "partition.seeds":  # By hand, these are all.
            overrides[f"{section}.partition.more_seeds"] = {}
    return overrides


def _override(tree: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        tree = tree.get(parent)
        if not isinstance(tree, dict):
            raise UserError(f"unknown key {key!r}: there is no section {parent!r}")
    tree[last] = value


def _validated(model: type[Settings], tree: Any, *place: str, complete: bool = True) -> Any:
    """`tree` as `model`, from that place in the file; UserError says what is wrong, a line for all of it."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        faults = [fault for fault in error.errors() if complete or fault["type"] != "missing"]
        if faults:
            said = (_explain((*place, *fault["loc"]), fault) for fault in faults)
            raise UserError("; ".join(said)) from error


def _explain(place: tuple[str | int, ...], error: dict[str, Any]) -> str:
    """The key, the value, and what is allowed."""
    key = ".".join(str(part) for depth, part in enumerate(place) if (depth, part) not in NO_KEYS)
    value, allowed = error["input"], error["msg"].replace("Input should be ", "")
    if error["type"] == "missing":
        return f"{key} is missing"
    if error["type"] == "unknown":
        return f"unknown key {key!r} (value {value!r}); {allowed}"
    return f"{key}: {value!r} is not allowed; allowed: {allowed}"
