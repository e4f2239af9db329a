"""The base of all groups of parameters, and how their faults are reported: key, value and what is allowed."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

Positive = Annotated[int, Field(ge=1)]


def fault(key: str, value: Any, allowed: str, kind: str = "not_allowed") -> ValidationError:
    """What a validator of a group raises for one of its keys: pydantic puts the place of the group before it."""
    error = PydanticCustomError(kind, "{allowed}", {"allowed": allowed})
    return ValidationError.from_exception_data("", [InitErrorDetails(type=error, loc=(key,), input=value)])


def _checked_name(name: Any) -> str:
    if not (isinstance(name, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name)):
        raise PydanticCustomError("name", "a name of letters, digits, - and _, a letter first")
    return name


Name = Annotated[str, BeforeValidator(_checked_name)]
"""What experiments and algorithms may be called: names of DVC's stages and of folders are made of it."""


class Settings(BaseModel):
    """Unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @classmethod
    def names(cls) -> list[str]:
        """The keys as params.yaml has them."""
        return [field.alias or name for name, field in cls.model_fields.items()]

    @model_validator(mode="before")
    @classmethod
    def _known(cls, tree: Any) -> Any:
        if not isinstance(tree, dict):
            raise PydanticCustomError("group", f"a group of the keys {', '.join(cls.names())}")
        for key in tree:
            if key not in cls.names() and cls.model_config["extra"] == "forbid":
                raise fault(key, tree[key], f"allowed there: {', '.join(cls.names())}", "unknown")
        return tree
