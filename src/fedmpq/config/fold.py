"""Take out of params.yaml what `dvc exp run -S` writes into it: the keys that experiments merge from `defaults`.

DVC writes an override as one more value, and with it every key that is merged, which later edits of `defaults` would
then no longer reach.
"""

from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from fedmpq.files import write_text


def fold(path: Path) -> None:
    """Leave out of each group the keys that stand as they are merged (`<<`); all else in the file stays as it is."""
    text = path.read_text()
    tree, lines = YAML().load(text), text.splitlines(keepends=True)
    sections = [section for section in tree.values() if isinstance(section, CommentedMap)]
    groups = [group for section in sections for group in section.values() if isinstance(group, CommentedMap)]
    for first, count in sorted((place for group in groups for place in _repeated(group)), reverse=True):
        del lines[first : first + count]
    folded = "".join(lines)
    if folded != text and YAML(typ="safe").load(folded) == YAML(typ="safe").load(text):
        write_text(path, folded)


def _repeated(group: CommentedMap) -> list[tuple[int, int]]:
    """First line and number of lines of each key of its own that `group` would have without it."""
    merged = dict(item for mapping in reversed(list(group.merge)) for item in mapping.items())
    own = dict(group.non_merged_items())
    return [
        (group.lc.key(key)[0], 1 + len(value) if isinstance(value, list) else 1)
        for key, value in own.items()
        if key in merged and merged[key] == value
    ]
