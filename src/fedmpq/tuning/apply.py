"""Write values into params.yaml, and leave everything else in it as it is."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from fedmpq.config import load_parameters
from fedmpq.errors import UserError
from fedmpq.files import replacing


def apply(path: Path, name: str, values: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Write `values` into the experiment `name`, all of them or none; what it inherits stays as others have it.

    Args:
        path: params.yaml, in the form in which DVC writes it (any other is brought into that form).
        name: the experiment.
        values: by dotted key within it.

    Returns:
        What has changed: dotted key within the file -> (old, new).

    Raises:
        UserError: the file cannot be read or written, has no such experiment or group, or the values are not allowed.
    """
    before = load_parameters(path)
    wanted = {**before.sections, name: before.varied(name, values)}
    yaml, changes = YAML(), {}
    tree = yaml.load(path)
    for key, value in values.items():
        group_name, last = key.split(".")
        group = tree[name][group_name]
        if group.get(last) != value:
            changes[f"{name}.{key}"] = group.get(last), value
            if last in dict(group.non_merged_items()):
                group[last] = value
            else:  # Behind `<<`: the comments before what follows belong to the last key of the group.
                group.insert(1, last, value)
    if changes:
        with replacing(path) as temporary:
            yaml.dump(tree, temporary)
            if load_parameters(temporary).sections != wanted:
                raise UserError(f"{path.name}: other experiments share {', '.join(changes)}; set it by hand")
    return changes
