"""Write values into params.yaml in place: a YAML library that writes the whole file would reformat other lines."""

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.comments import CommentedMap

from fedmpq.config import load_parameters
from fedmpq.errors import UserError
from fedmpq.files import replacing

QUOTED = r"""'(?:[^']|'')*'|"(?:[^"\\]|\\.)*\""""
IN_BLOCK = re.compile(rf"{QUOTED}|[^\s#'\"].*?(?=\s+#|\s*$)")
IN_BRACES = re.compile(rf"{QUOTED}|[^\s,{{}}\[\]#'\"][^,{{}}\[\]#]*?(?=\s*[,}}])")


def apply(path: Path, section: str, values: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Write `values` into `section` of the file, all of them or none.

    Args:
        path: params.yaml.
        section: an experiment.
        values: by dotted key within the section.

    Returns:
        What has changed: dotted key within the file -> (old, new); a key that was not there had None.

    Raises:
        UserError: the file cannot be read or written, has no such section, or the values are not allowed there.
    """
    load_parameters(path).experiment(section)
    text, changes = path.read_text(), {}
    for key, value in values.items():
        tree = YAML().load(text)
        *parents, last = f"{section}.{key}".split(".")
        group = _group(tree, parents)
        old = group.get(last)
        if last not in group or old != value:
            text = _replaced(text, group, last, value)
            changes[f"{section}.{key}"] = old, value
            _check(text, tree, parents, last, value)
    if changes:
        with replacing(path) as temporary:
            temporary.write_text(text)
            load_parameters(temporary)
    return changes


def _group(tree: Any, parents: list[str]) -> CommentedMap:
    for parent in parents:
        tree = tree.get(parent)
        if not isinstance(tree, CommentedMap) or not tree:
            raise UserError(f"params.yaml has no section {'.'.join(parents)!r}; add it, then apply again")
    return tree


def _replaced(text: str, group: CommentedMap, key: str, value: Any) -> str:
    """`text` with another value at `key` of `group`, or with one more line where it has no such key."""
    lines, braces = text.splitlines(keepends=True), group.fa.flow_style()
    if key not in group:
        number, column = group.lc.key(next(iter(group)))
        entry = f"{key}: {_yaml(value)}" + (", " if braces else f"\n{' ' * column}")
        lines[number] = lines[number][:column] + entry + lines[number][column:]
        return "".join(lines)
    number, column = group.lc.value(key)
    found = (IN_BRACES if braces else IN_BLOCK).match(lines[number], column)
    if found:
        lines[number] = lines[number][:column] + _yaml(value) + lines[number][found.end() :]
    return "".join(lines)


def _yaml(value: Any) -> str:
    """A number, word, true, false or null as YAML 1.1 and 1.2 read it."""
    if isinstance(value, float):
        mantissa, exponent, power = repr(value).partition("e")
        return f"{mantissa}{'' if '.' in mantissa else '.0'}{exponent}{power}"
    if isinstance(value, str) and YAML(typ="safe", pure=True).load(value) == value and value.strip() == value:
        return value
    return json.dumps(value)


def _check(text: str, tree: CommentedMap, parents: list[str], key: str, value: Any) -> None:
    """Raise UserError unless `text` holds what `tree` does but for the one value."""
    expected = deepcopy(tree)
    _group(expected, parents)[key] = value
    try:
        changed = YAML().load(text) == expected
    except YAMLError:
        changed = False
    if not changed:
        full = ".".join([*parents, key])
        raise UserError(f"params.yaml: {full} is not written on a line of its own; set it by hand: {full}: {value}")
