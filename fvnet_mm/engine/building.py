"""What a part of a config breaks when it is built, in a sentence that leads to the line that broke it."""

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from torch import nn

from fvnet_mm.engine.memory import allocation_in_words, is_out_of_memory
from fvnet_mm.errors import UserError

BROKEN = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError),
    *(LookupError, MemoryError, RuntimeError, TypeError, ValueError),
)
"""What a wrong value breaks when a part of the config is built."""

_LIBRARIES = {"torch", "torchvision", "timm", "mmengine", "mmcv", "mmdet", "mmseg", "mmpretrain", "fvnet_mm"}
"""Packages whose lines are not the user's, even where they are installed from a clone."""

_INSTALLED = {"site-packages", "dist-packages"}
_STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib")).resolve()


def unwrapped(model: nn.Module) -> nn.Module:
    """A model without the wrapper that it has among several processes."""
    return model.module if is_model_wrapper(model) else model


@contextmanager
def building(what: str) -> Iterator[None]:
    """Turns what a part of the config breaks when it is built into a sentence; the log file keeps the traceback.

    Raises:
        UserError: With the part's own message, and the line of the user's code that it comes from.
    """
    try:
        yield
    except BROKEN as error:
        print_log(traceback.format_exc(), "current")
        if is_out_of_memory(error):
            raise UserError(
                f"memory does not suffice to build the {what} of the config ({allocation_in_words(error)}): make it "
                "smaller, free some, or choose another device (CUDA_VISIBLE_DEVICES)."
            ) from error
        raise UserError(f"the {what} of the config cannot be built: {in_words(error)}") from error


def in_words(error: BaseException) -> str:
    """An error's message and the innermost line of the user's own code; of a bare assertion the line that failed."""
    message = str(error.args[0]) if error.args else ""
    if isinstance(error, SyntaxError):
        return f"{message} ({error.filename}, line {error.lineno})"
    if not message or message.endswith(": "):  # a bare assertion, with the registry's prefix or without
        frame = traceback.extract_tb((error.__cause__ or error).__traceback__)[-1]
        return f"{message}{frame.line} ({Path(frame.filename).name}, line {frame.lineno})"
    if type(error) is KeyError and message.isidentifier():
        message = f"{message!r} is missing"
    line = users_line(error)
    return f"{message} ({line})" if line else message


def users_line(error: BaseException) -> str:
    """The innermost line of an error's traceback outside the installed packages; empty if there is none."""
    found = ""
    for frame, number in traceback.walk_tb((error.__cause__ or error).__traceback__):
        file = frame.f_code.co_filename
        if not file.startswith("<") and is_users(frame.f_globals.get("__name__", ""), Path(file)):
            found = f"{file}, line {number}"
    return found


def is_users(module: str, file: Path) -> bool:
    """Whether a module is the user's own code, by its name and file: neither a library's nor Python's own."""
    file = file.resolve()
    installed = not _INSTALLED.isdisjoint(file.parts) or file.is_relative_to(_STANDARD_LIBRARY)
    return module.partition(".")[0] not in _LIBRARIES and not installed
