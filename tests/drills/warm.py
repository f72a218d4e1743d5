"""Tools in children of a process that has imported everything: what a drill starts a hundred times starts at once."""

import os
import runpy
import signal
import sys
import time
import traceback
from pathlib import Path

import torch

import fvnet_mm.engine.session
import fvnet_mm.report.run  # noqa: F401
from fvnet_mm.cli import run_tool

DRILLS = Path(__file__).parent
ROOT = DRILLS.parents[1]
RETINANET, SEMANTIC_FPN = DRILLS / "tiny_retinanet.py", DRILLS / "tiny_semantic_fpn.py"


class Child:
    """A tool that runs in a process group of its own, output in a file.

    Args:
        log: File for what the tool prints, appended to.
        words: Those of the command line, the tool's name first.
        environment: Variables to add.
    """

    def __init__(self, log: Path, *words: object, **environment: object) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(_run(log, [str(word) for word in words], {key: str(value) for key, value in environment.items()}))
        self.status: int | None = None

    def running(self) -> bool:
        """Whether it has not ended yet."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is None

    def wait(self, seconds: float = 1800.0) -> int:
        """Its exit status, negative where a signal ended it; it is killed when the time is up."""
        end = time.monotonic() + seconds
        while self.running():
            if time.monotonic() > end:
                self.kill()
                raise TimeoutError(f"still running after {seconds:.0f} s: {self.text()[-2000:]}")
            time.sleep(0.002)
        return self.status

    def send(self, number: int, group: bool = False) -> None:
        """Sends a signal to the tool, or to it and its workers."""
        (os.killpg if group else os.kill)(self.pid, number)

    def kill(self) -> None:
        """Kills it and its workers."""
        if self.running():
            self.send(signal.SIGKILL, group=True)
            self.wait()

    def text(self) -> str:
        """What was printed so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def _run(log: Path, words: list[str], environment: dict[str, str]) -> int:
    try:
        os.setsid()
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        os.environ.update(environment)
        torch.set_num_threads(1)  # OpenMP's other threads do not outlive a fork
        tool, *rest = words
        sys.argv = [str(ROOT / "tools" / f"{tool}.py"), *rest]
        module = runpy.run_path(sys.argv[0])
        run_tool(module["main"], module[f"{tool}_parser"]())
    except SystemExit as stop:
        return int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
        return 99
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0
