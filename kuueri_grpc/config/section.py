"""What every section of the settings has in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A group of settings: an object in the JSON file."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
