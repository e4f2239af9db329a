"""Text of figures as it stands: no mathematics, and characters in fonts that have them."""

import unicodedata
from functools import cache

from matplotlib.figure import Figure
from matplotlib.font_manager import FontPath, fontManager, get_font
from matplotlib.text import Text

FONT = "DejaVu Sans"


def plain(figure: Figure) -> Figure:
    """Let `figure` draw its texts as they stand, in FONT and, where that lacks characters, in fonts of this machine."""
    for text in figure.findobj(Text):
        families = filter(None, map(_font_with, text.get_text()))
        text.set(parse_math=False, family=list(dict.fromkeys([FONT, *families])))
    return figure


def readable(text: str, longest: int | None = None) -> str:
    """`text` with escapes for characters that no font here can draw; without its middle where it is too long."""
    text = "".join(c if _font_with(c) else c.encode("unicode_escape").decode() for c in text)
    if longest is None or len(text) <= longest:
        return text
    return f"{text[: longest // 3]}…{text[longest // 3 + 1 - longest :]}"


@cache
def _font_with(character: str) -> str | None:
    """The first family that has `character`; None if no font of this machine has."""
    control = unicodedata.category(character) == "Cc"
    return next((name for name in _families() if not control and ord(character) in _characters(name)), None)


@cache
def _families() -> dict[str, FontPath]:
    """The regular fonts of this machine by family, FONT first; those of boxes for every character left out."""
    regular = [font for font in fontManager.ttflist if font.style == "normal" and font.weight in (400, "normal")]
    regular = [font for font in regular if not font.name.startswith("Last Resort")]
    regular.sort(key=lambda font: (font.name != FONT, font.name, font.fname))
    return {font.name: FontPath(font.fname, font.index) for font in regular}


@cache
def _characters(family: str) -> frozenset[int]:
    return frozenset(get_font(_families()[family]).get_charmap())
