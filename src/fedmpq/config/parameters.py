"""params.yaml as a whole: reading it, overriding it, and saying what is wrong with it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML, YAMLError

from fedmpq.config.algorithms import ALGORITHM_NAMES, TAGS, AlgorithmSettings, settings_type
from fedmpq.config.experiment import GROUPS, Experiment
from fedmpq.config.settings import Positive, Settings, check_name
from fedmpq.config.tune import Dimension, Tune
from fedmpq.errors import UserError

LISTS_AND_TOOLS = ("experiments", "algorithms", "alphas", "execution", "tune")
"""What stands at the top of params.yaml beside `defaults` and the experiments."""
UNWRITTEN = {0: ("sections",), 2: ("algorithms", "float", "int"), 4: TAGS}
"""Parts of pydantic's path to a fault that are no keys of params.yaml, by their place in it."""


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
    alphas: Annotated[list[float | int], Field(min_length=1)]
    execution: Execution = Execution()
    tune: Tune | None = None
    sections: dict[str, Experiment]

    @model_validator(mode="before")
    @classmethod
    def _named(cls, tree: Any) -> Any:
        for name in tree["sections"]:
            check_name(name)
        return tree

    @model_validator(mode="after")
    def _consistent(self) -> "Parameters":
        for alpha in self.alphas:
            check_alpha(alpha)
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
        experiment = self.experiment(name)
        tree = experiment.tree()
        for key, value in values.items():
            _override(tree, key, value)
        lists = {"experiments": [name], "algorithms": list(experiment.algorithms), "alphas": self.alphas}
        return _validated(Parameters, {**lists, "sections": {name: tree}}).experiment(name)

    def alpha_label(self, alpha: float) -> str:
        """`alpha` as params.yaml writes it (0.5, 1 or 1.0), which is how folders are named."""
        check_alpha(alpha)
        return next((str(a) for a in self.alphas if a == alpha), f"{alpha:g}")


def check_alpha(alpha: float) -> None:
    """Raise UserError unless `alpha` is a positive, finite Dirichlet concentration."""
    if not 0 < alpha < float("inf"):
        raise UserError(f"alpha: {alpha} is not allowed; allowed: a number above 0")


def load_parameters(path: Path, overrides: dict[str, Any] | None = None) -> Parameters:
    """Read and check params.yaml.

    Args:
        path: the file.
        overrides: dotted keys and their values, e.g. `{"digits.fedmpq.lambda": 0.1}`.

    Raises:
        UserError: the file is missing or no YAML, or a key is unknown, of a wrong type or out of
            range; the message names the key, the value and what is allowed.
    """
    try:
        tree = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path.name} is not in UTF-8: {error}") from error
    except YAMLError as error:
        raise UserError(f"{path.name} is no valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{path.name} holds no parameters; see the README for its layout")
    for key, value in (overrides or {}).items():
        _override(tree, key, value)
    _check_defaults(tree.pop("defaults", {}))
    top = {key: tree.pop(key) for key in LISTS_AND_TOOLS if key in tree}
    return _validated(Parameters, {**top, "sections": tree})


def parse_overrides(assignments: list[str], section: str) -> dict[str, Any]:
    """`["training.rounds=3"]` as dotted keys with YAML values, below `section` unless they are of `execution`."""
    overrides = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        key = key.strip()
        if not equals:
            raise UserError(f"--set {assignment}: allowed: KEY=VALUE, e.g. --set training.rounds=3")
        try:
            found = YAML(typ="safe", pure=True).load(value)
        except YAMLError as error:
            raise UserError(
                f"--set {assignment}: {value!r} is no valid YAML;"
                " allowed: KEY=VALUE, e.g. --set 'partition.seeds=[0, 1]'"
            ) from error
        overrides[key if key.startswith("execution.") else f"{section}.{key}"] = found
    return overrides


def _check_defaults(defaults: Any) -> None:
    """Raise UserError for a key that no experiment could merge; values are checked where they are merged."""
    for group, keys in _mapping("defaults", defaults):
        for path in [
            ("defaults", group),
            *(("defaults", group, key) for key, _ in _mapping(f"defaults.{group}", keys)),
        ]:
            allowed = _keys_beside(path)
            if path[-1] not in allowed:
                raise UserError(f"params.yaml: unknown key {'.'.join(path)!r}; allowed there: {', '.join(allowed)}")


def _mapping(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        raise UserError(f"params.yaml: {key}: {value!r} is not allowed; allowed: a group of keys")
    return ((str(name), inner) for name, inner in value.items())


def _override(tree: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        tree = tree.get(parent)
        if not isinstance(tree, dict):
            raise UserError(f"unknown key {key!r}: there is no section {parent!r} in params.yaml")
    tree[last] = value


def _validated(model: type[Settings], tree: dict[str, Any]) -> Any:
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise UserError("params.yaml: " + "; ".join(map(_explain, error.errors()))) from error


def _explain(error: dict[str, Any]) -> str:
    """One line for one fault: the key, the value, what is allowed."""
    path = [part for place, part in enumerate(error["loc"]) if part not in UNWRITTEN.get(place, ())]
    key, value = ".".join(map(str, path)), error["input"]
    if error["type"] == "extra_forbidden":
        kind = next((TAGS[part] for part in error["loc"] if part in TAGS), None)
        where = _place(path) or f"allowed there: {', '.join(_keys_beside(path, kind))}"
        return f"unknown key {key!r} (value {value!r}); {where}"
    if error["type"] == "missing":
        return f"{key} is missing"
    if error["type"] == "value_error":
        fault = str(error["ctx"]["error"])
        return f"{key}{': ' if fault.startswith('the ') else '.'}{fault}" if key else fault
    if error["type"] == "model_type":
        if len(path) == 1 and key not in LISTS_AND_TOOLS:
            return f"unknown key {key!r} (value {value!r}); allowed: the sections and lists in the README"
        return f"{key}: {value!r} is not allowed; allowed: a group of the keys {', '.join(_keys_beside([*path, '']))}"
    allowed = error["msg"].replace("Input should be ", "")
    return f"{key}: {value!r} is not allowed; allowed: {allowed}"


def _place(path: list[str | int]) -> str | None:
    """Where a key that has lost its group belongs."""
    found = [group for group, model in GROUPS.items() if len(path) == 2 and path[1] in model.model_fields]
    return f"it belongs to a group: {path[0]}.{found[0]}.{path[1]}" if found else None


def _keys_beside(path: Sequence[str | int], kind: type[AlgorithmSettings] | None = None) -> list[str]:
    """The keys that may stand where the last key of `path` stands, in the settings `kind` of an algorithm or else."""
    model: Any = {"execution": Execution, "tune": Tune}.get(str(path[0]), Experiment)
    if model is Tune and len(path) > 2:
        model = Dimension
    elif model is Experiment and len(path) > 2:
        model = kind or GROUPS.get(str(path[1])) or settings_type(str(path[1]))
    elif model is Experiment:
        return [*GROUPS, *ALGORITHM_NAMES]
    return [field.alias or name for name, field in model.model_fields.items()]
