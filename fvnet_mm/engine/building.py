"""What a part of a config breaks when it is built, in a sentence that leads to the line that broke it."""

import difflib
import inspect
import re
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from torch import nn

from fvnet_mm.engine.memory import allocation_in_words, is_out_of_memory
from fvnet_mm.errors import UserError, enumeration

BROKEN = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError),
    *(LookupError, MemoryError, RuntimeError, TypeError, ValueError),
)
"""What a wrong value breaks when a part of the config is built."""

LIBRARIES = {"torch", "torchvision", "timm", "mmengine", "mmcv", "mmdet", "mmseg", "mmpretrain", "fvnet_mm"}
"""Packages whose lines are not the user's, even where they are installed from a clone."""

_UNKNOWN_ARGUMENT = re.compile(r"(?:\w+: )?(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'")

_INSTALLED = {"site-packages", "dist-packages"}
_STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib")).resolve()


def unwrapped(model: nn.Module) -> nn.Module:
    """A model without the wrapper that it has among several processes."""
    return model.module if is_model_wrapper(model) else model


@contextmanager
def building(what: str, settings: object = None) -> Iterator[None]:
    """Turns what a part of the config breaks when it is built into a sentence; the log file keeps the traceback.

    Args:
        what: The part, in words.
        settings: The config, or the part of it, in which the sentence says where an unknown argument stands.

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
        reason = _unknown_argument_in_words(error, settings) or in_words(error)
        raise UserError(f"the {what} of the config cannot be built: {reason}") from error


def _unknown_argument_in_words(error: BaseException, settings: object) -> str:
    """Which argument a class of the config does not take, where it stands, and the closest that it takes.

    Empty for any other error, where the class cannot be told, and where code of the user's calls it.
    """
    unknown = _UNKNOWN_ARGUMENT.fullmatch(str(error.args[0])) if isinstance(error, TypeError) and error.args else None
    if unknown is None or users_line(error):
        return ""
    refusing, argument = unknown.groups()
    kind = _class_called(error, refusing)
    if kind is None:
        return ""
    taken = {name for base in kind.__mro__ for name in _arguments(base)}
    close = difflib.get_close_matches(argument, taken, n=1)
    hint = f"the closest that it takes is {close[0]}" if close else f"it takes {enumeration(sorted(taken))}"
    places = list(_places(settings, argument))
    where = f" ({enumeration(places)})" if 0 < len(places) <= 3 else ""
    return f"{kind.__name__} takes no argument {argument!r}{where}; {hint}."


def _class_called(error: BaseException, refusing: str) -> type | None:
    """The class that was called where ``refusing``, it or one of its bases, does not take an argument.

    mmengine's registries call it in a frame of their own; what is built without them is a global of the caller.
    """
    frames = [frame for frame, _ in traceback.walk_tb((error.__cause__ or error).__traceback__)][::-1]
    called = [frame.f_locals.get("obj_cls") for frame in frames]
    for kind in (*called, *(frame.f_globals.get(refusing) for frame in frames)):
        if inspect.isclass(kind) and refusing in {base.__name__ for base in kind.__mro__}:
            return kind
    return None


def _arguments(kind: type) -> Iterator[str]:
    """The names of what a class's own ``__init__`` takes."""
    if "__init__" in vars(kind) and kind is not object:
        parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
        yield from (each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY))


def _places(settings: object, key: str, above: str = "") -> Iterator[str]:
    """Where in nested settings a key stands, as ``--cfg-options`` would name it."""
    entries = enumerate(settings) if isinstance(settings, list | tuple) else ()
    for name, value in settings.items() if isinstance(settings, Mapping) else entries:
        if name == key:
            yield f"{above}{name}"
        yield from _places(value, key, f"{above}{name}.")


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
    return module.partition(".")[0] not in LIBRARIES and not installed
