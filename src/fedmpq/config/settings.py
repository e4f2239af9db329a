"""The base of all groups of parameters."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
"""What experiments and algorithms may be called: names of DVC's stages and of folders are made of it."""


def check_name(name: Any) -> None:
    """Raise ValueError unless `name` is a NAME."""
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        raise ValueError(f"the name {name!r} is not allowed; allowed: letters, digits, - and _, a letter first")


class Settings(BaseModel):
    """Unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_by_name=True, allow_inf_nan=False)
