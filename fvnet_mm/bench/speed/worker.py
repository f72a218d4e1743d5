"""What measures one model: in this process, or in one of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection

import torch
from torch import nn

from fvnet_mm.bench.complexity import count_parameters
from fvnet_mm.bench.model_complexity import parts_of
from fvnet_mm.bench.speed.counting import count_subject, ftfu_operations, parameters_of
from fvnet_mm.bench.speed.device import set_up, waiter
from fvnet_mm.bench.speed.fixed_outputs import fix_outputs
from fvnet_mm.bench.speed.fuse import NOT_FUSED, fuse_trunk
from fvnet_mm.bench.speed.passes import Pass, make_pass
from fvnet_mm.bench.speed.rounds import timed
from fvnet_mm.bench.speed.subjects import Subject, build_subject, trunk_of
from fvnet_mm.engine.memory import is_out_of_memory
from fvnet_mm.errors import UserError
from fvnet_mm.records.benchmark import Case, Conditions, Model, Size

WARM_UP = 2
"""Passes before a case's rounds, beside the first, in which compilation and cuDNN's search are."""


class OutOfMemory(Exception):
    """A pass does not fit."""


class LocalWorker:
    """A model in this process, which the conditions have been set up for; it is counted at these sizes.

    Attributes:
        model: What it is: its parameters, how it was fused, its counts.
    """

    def __init__(self, subject: Subject, conditions: Conditions, sizes: Sequence[Size]) -> None:
        self._conditions, self._name = conditions, subject.name
        self._wait = waiter(conditions.backend)
        self._pass: Pass | None = None
        self._fixed = False
        module = build_subject(subject)
        trained = count_parameters(trunk_of(module))
        operations = {size: ftfu_operations(module, size) for size in sizes}
        how = NOT_FUSED
        if conditions.fused:
            fused, how = fuse_trunk(trunk_of(module))
            if subject.whole:
                module.backbone = fused
            else:
                module = fused
        counted = count_subject(module, sizes)
        self.model = Model(
            name=subject.name,
            source=subject.source,
            whole=subject.whole,
            backbone=subject.backbone,
            parameters=parameters_of(module),
            trained=trained,
            fused=how,
            counted=[part.model_copy(update={"ftfu_operations": operations[part.size]}) for part in counted],
        )
        before = _allocated()
        layout = torch.channels_last if conditions.channels_last else torch.contiguous_format
        self._module = module.to(conditions.backend, memory_format=layout)
        self._held = _allocated() - before
        self._inputs = self._peak = 0
        if conditions.compiled:
            _compile(self._module)

    def prepare(self, case: Case) -> float:
        """Makes a case's inputs, warms up, and returns the seconds of a pass.

        Raises:
            UserError: The model does not take such images, or cannot be compiled.
            OutOfMemory: A pass does not fit.
        """
        self._pass = None
        if case.what == "predict" and not self._fixed:
            fix_outputs(self._module)
            self._fixed = True
        self._module.zero_grad()  # gradients of a former case are this one's, too
        before = _allocated()
        try:
            self._pass = make_pass(self._module, case, self._conditions)
            timed(self._pass, 1, self._wait)
            seconds = timed(self._pass, WARM_UP, self._wait)
        except (RuntimeError, ValueError, AssertionError, MemoryError) as error:
            self._pass = None
            if not is_out_of_memory(error):
                raise UserError(_refusal(self._name, case, error)) from error
        else:
            self._inputs, self._peak = _allocated() - before, 0
            return min(seconds)
        # Not in the handler, whose error holds what the pass has made.
        torch.cuda.empty_cache()
        raise OutOfMemory

    def turn(self, passes: int) -> list[float]:
        """Seconds of so many passes of the case that was prepared last."""
        if self._conditions.backend != "cuda":
            return timed(self._pass, passes, self._wait)
        torch.cuda.reset_peak_memory_stats()
        before = _allocated()
        seconds = timed(self._pass, passes, self._wait)
        # What other models hold is in both.
        self._peak = max(self._peak, torch.cuda.max_memory_allocated() - before)
        return seconds

    def peak_memory(self) -> int | None:
        """Bytes that the model and a pass of this case took at most on an NVIDIA GPU; None elsewhere."""
        return self._held + self._inputs + self._peak if self._conditions.backend == "cuda" else None

    def close(self) -> None:
        """Lets go of what it holds."""
        self._pass = None


class IsolatedWorker:
    """A :class:`LocalWorker` in a process of its own, which waits while others have their turns."""

    def __init__(self, subject: Subject, conditions: Conditions, sizes: Sequence[Size]) -> None:
        context = multiprocessing.get_context("spawn")
        self._name = subject.name
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, subject, conditions, tuple(sizes)), daemon=True)
        self._process.start()
        other.close()
        self.model: Model = self._receive()

    def prepare(self, case: Case) -> float:
        return self._ask("prepare", case)

    def turn(self, passes: int) -> list[float]:
        return self._ask("turn", passes)

    def peak_memory(self) -> int | None:
        return self._ask("peak_memory")

    def close(self) -> None:
        with suppress(OSError):  # it may have ended already
            self._connection.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.terminate()

    def _ask(self, method: str, *arguments: object) -> object:
        with suppress(ConnectionError):  # what has ended says so below
            self._connection.send((method, arguments))
        return self._receive()

    def _receive(self) -> object:
        try:
            error, value = self._connection.recv()
        except (EOFError, ConnectionError) as end:
            self._process.join()
            raise UserError(
                f"the process of {self._name} ended with exit code {self._process.exitcode}; a negative one is a "
                "signal, and -9 is what the system sends when memory runs out: try a smaller batch or image."
            ) from end
        if error is not None:
            raise error
        return value


Worker = LocalWorker | IsolatedWorker


def _serve(connection: Connection, subject: Subject, conditions: Conditions, sizes: Sequence[Size]) -> None:
    """Answers an :class:`IsolatedWorker` until it hangs up: pairs of an error, or None, and a value."""
    try:
        set_up(conditions)
        worker = LocalWorker(subject, conditions, sizes)
    except UserError as error:
        connection.send((error, None))
        return
    connection.send((None, worker.model))
    with suppress(EOFError):
        while True:
            method, arguments = connection.recv()
            try:
                answer = None, getattr(worker, method)(*arguments)
            except (UserError, OutOfMemory) as error:
                answer = error, None
            connection.send(answer)


def _compile(module: nn.Module) -> None:
    """Compiles a trunk, or every part of a model, for each shape that it meets; hooks stay outside."""
    # Models share their code, and every shape compiles it once more. The names are those that torch 2.6 has, too.
    torch._dynamo.config.cache_size_limit = torch._dynamo.config.accumulated_cache_size_limit = 10_000
    for part in parts_of(module).values() or [module]:
        part.forward = torch.compile(part.forward, dynamic=False)


def _allocated() -> int:
    return torch.cuda.memory_allocated() if torch.cuda.is_available() else 0


def _refusal(name: str, case: Case, error: Exception) -> str:
    height, width = case.size
    message = next(iter(str(error).strip().splitlines()), type(error).__name__)
    what = "" if case.what == "trunk" else f" ({case.what})"
    return f"{name}{what} does not run on {case.batch} x {height}x{width} images: {message}"
