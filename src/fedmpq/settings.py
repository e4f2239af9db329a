"""The base of all groups of parameters."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_by_name=True, allow_inf_nan=False)
