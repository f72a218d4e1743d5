"""What measures one model: in this process, or in one of its own."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Protocol

import torch
from torch import nn

from fvnet_mm.bench.model_complexity import parts_of
from fvnet_mm.bench.speed.counting import count_subject, parameters_of
from fvnet_mm.bench.speed.device import set_up, waiter
from fvnet_mm.bench.speed.fixed_outputs import fix_outputs
from fvnet_mm.bench.speed.fuse import NOT_FUSED, fuse_trunk
from fvnet_mm.bench.speed.passes import Pass, make_pass
from fvnet_mm.bench.speed.rounds import timed
from fvnet_mm.bench.speed.schema import Case, Conditions, Counted, Model
from fvnet_mm.bench.speed.subjects import Subject, build_subject, trunk_of
from fvnet_mm.errors import UserError

WARM_UP = 3
"""Passes before a case's rounds: compilation and cuDNN's search are in the first."""


class OutOfMemory(Exception):
    """A pass does not fit."""


class Worker(Protocol):
    """One model, measured when it is its turn."""

    def describe(self) -> Model:
        """Its parameters and how it was fused."""

    def count(self, sizes: tuple[tuple[int, int], ...]) -> tuple[Counted, ...]:
        """Its MACs and bytes at images of these sizes."""

    def prepare(self, case: Case) -> float:
        """Makes a case's inputs, warms up, and returns the seconds of a pass.

        Raises:
            UserError: The model does not take such images, or cannot be compiled.
            OutOfMemory: A pass does not fit.
        """

    def turn(self, passes: int) -> list[float]:
        """Seconds of so many passes of the case that was prepared last."""

    def peak_memory(self) -> int | None:
        """Bytes that the model and its greatest pass of this case took on a GPU; None elsewhere."""

    def close(self) -> None:
        """Ends it."""


class LocalWorker:
    """A model in this process, which the conditions have been set up for."""

    def __init__(self, subject: Subject, conditions: Conditions) -> None:
        self.subject, self.conditions = subject, conditions
        self._wait = waiter(conditions.backend)
        self._pass: Pass | None = None
        self._held = self._peak = self._case_held = 0
        module = build_subject(subject)
        self._parameters = parameters_of(module)
        self._fused = NOT_FUSED
        if conditions.fused:
            fused, self._fused = fuse_trunk(trunk_of(module))
            if trunk_of(module) is module:
                module = fused
            else:
                module.backbone = fused
        before = self._allocated()
        layout = torch.channels_last if conditions.channels_last else torch.contiguous_format
        self._module = module.to(conditions.backend, memory_format=layout)
        self._held = self._allocated() - before
        if conditions.compiled:
            _compile(self._module)
        self._fixed = False

    def describe(self) -> Model:
        trunk = trunk_of(self._module)
        outputs = getattr(trunk, "out_indices", None)
        return Model(
            name=self.subject.name,
            source=self.subject.source,
            backbone=type(trunk).__name__,
            outputs=None if outputs is None else tuple(outputs),
            parameters=self._parameters,
            fused=self._fused,
        )

    def count(self, sizes: tuple[tuple[int, int], ...]) -> tuple[Counted, ...]:
        return count_subject(build_subject(self.subject), sizes)

    def prepare(self, case: Case) -> float:
        self._pass = None
        before = self._allocated()
        if case.what == "predict" and not self._fixed:
            fix_outputs(self._module)
            self._fixed = True
        try:
            self._pass = make_pass(self._module, self.subject.config is not None, case, self.conditions)
            seconds = timed(self._pass, WARM_UP, time.perf_counter, self._wait)
        except (torch.OutOfMemoryError, RuntimeError, ValueError, AssertionError) as error:
            self._pass = None
            if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
                if self.conditions.backend == "cuda":
                    torch.cuda.empty_cache()
                raise OutOfMemory from None
            raise UserError(_refusal(self.subject.name, case, error)) from error
        self._case_held = self._held + self._allocated() - before
        self._peak = 0
        return min(seconds)

    def turn(self, passes: int) -> list[float]:
        if self.conditions.backend != "cuda":
            return timed(self._pass, passes, time.perf_counter, self._wait)
        torch.cuda.reset_peak_memory_stats()
        before = self._allocated()
        seconds = timed(self._pass, passes, time.perf_counter, self._wait)
        # Less what other models hold.
        self._peak = max(self._peak, self._case_held + torch.cuda.max_memory_allocated() - before)
        return seconds

    def peak_memory(self) -> int | None:
        return self._peak if self.conditions.backend == "cuda" else None

    def close(self) -> None:
        self._pass = None

    def _allocated(self) -> int:
        return torch.cuda.memory_allocated() if self.conditions.backend == "cuda" else 0


class IsolatedWorker:
    """A model in a process of its own, which waits while others have their turns."""

    def __init__(self, subject: Subject, conditions: Conditions) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, subject, conditions), daemon=True)
        self._process.start()
        other.close()
        self.subject = subject
        self._answer()

    def describe(self) -> Model:
        return self._ask("describe")

    def count(self, sizes: tuple[tuple[int, int], ...]) -> tuple[Counted, ...]:
        return self._ask("count", sizes)

    def prepare(self, case: Case) -> float:
        return self._ask("prepare", case)

    def turn(self, passes: int) -> list[float]:
        return self._ask("turn", passes)

    def peak_memory(self) -> int | None:
        return self._ask("peak_memory")

    def close(self) -> None:
        with suppress(OSError):
            self._connection.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.terminate()

    def _ask(self, method: str, *arguments: object) -> object:
        self._connection.send((method, arguments))
        return self._answer()

    def _answer(self) -> object:
        try:
            error, value = self._connection.recv()
        except EOFError as end:
            self._process.join()
            raise UserError(
                f"the process of {self.subject.name} ended with exit code {self._process.exitcode}; a negative one is "
                "a signal, and 9 is what the system sends when memory runs out."
            ) from end
        if error is not None:
            raise error
        return value


def _serve(connection: Connection, subject: Subject, conditions: Conditions) -> None:
    """Answers an :class:`IsolatedWorker` until it hangs up: pairs of an error, or None, and a value."""

    def answer(call: Callable[[], object]) -> object:
        try:
            value = call()
        except (UserError, OutOfMemory) as error:
            connection.send((error, None))
            return None
        connection.send((None, None if isinstance(value, LocalWorker) else value))
        return value

    set_up(conditions)
    worker = answer(lambda: LocalWorker(subject, conditions))
    while worker is not None:
        try:
            method, arguments = connection.recv()
        except EOFError:
            return
        answer(lambda method=method, arguments=arguments: getattr(worker, method)(*arguments))


def _compile(module: nn.Module) -> None:
    """Compiles a trunk, or every part of a model, for each shape that it meets; hooks stay outside."""
    # Models share their code, and every shape compiles it once more.
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 10_000
    parts = parts_of(module).values() if trunk_of(module) is not module else [module]
    for part in parts:
        part.forward = torch.compile(part.forward, dynamic=False)


def _refusal(name: str, case: Case, error: Exception) -> str:
    height, width = case.size
    message = next(iter(str(error).strip().splitlines()), type(error).__name__)
    what = "" if case.what == "trunk" else f" ({case.what})"
    return f"{name}{what} does not run on {case.batch} x {height}x{width} images: {message}"
