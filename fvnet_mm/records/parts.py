"""What all schemas are made of, and what is said of a file that does not fit its schema."""

import re
import reprlib
from typing import Annotated

from pydantic import AllowInfNan, BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

Number = Annotated[float, AllowInfNan(False)]

_NAMED = 3  # faults of a file that a sentence names

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 1  # a few references to references, as YAML has them, are millions of values


class Part(BaseModel):
    """A part of a schema: unknown fields are refused, and nothing changes once it is made."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def first_faults(error: ValidationError) -> str:
    """The first three faults in words, where they are, and how many more there are; no full stop."""
    faults = error.errors(include_url=False)
    others = len(faults) - _NAMED
    more = f", and {others} more fault{'s' * (others > 1)}" if others > 0 else ""
    return "; ".join(map(_in_words, faults[:_NAMED])) + more


def _in_words(fault: ErrorDetails) -> str:
    # Not the tags of unions, which are no fields.
    place = ".".join(str(part) for part in fault["loc"] if not re.search(r"[-\[(]", str(part)) and part != "nullable")
    if fault["type"] == "extra_forbidden":
        return f"{place} is a field that the schema does not know"
    if fault["type"] == "missing":
        return f"{place} is missing"
    message = fault["msg"].removeprefix("Value error, ")
    return f"{place}: {message} (it is {_SHORT.repr(fault['input'])})" if place else message
