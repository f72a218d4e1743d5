"""What all schemas are made of, and what is said of a file that does not fit its schema."""

import re
import reprlib
from typing import Annotated

from pydantic import AllowInfNan, BaseModel, ConfigDict, ValidationError

Number = Annotated[float, AllowInfNan(False)]

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 1  # a few references to references, as YAML has them, are millions of values


class Part(BaseModel):
    """A part of a schema: unknown fields are refused, and nothing changes once it is made."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def first_fault(error: ValidationError) -> str:
    """The first fault in words, where it is, and how many more there are; no full stop."""
    first, *others = error.errors(include_url=False)
    # Not the tags of unions, which are no fields.
    place = ".".join(str(part) for part in first["loc"] if not re.search(r"[-\[(]", str(part)) and part != "nullable")
    more = f", and {len(others)} more fault{'s' * (len(others) > 1)}" if others else ""
    if first["type"] == "extra_forbidden":
        return f"{place} is a field that the schema does not know{more}"
    if first["type"] == "missing":
        return f"{place} is missing{more}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{place}: {message} (it is {_SHORT.repr(first['input'])}){more}" if place else f"{message}{more}"
