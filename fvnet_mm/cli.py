"""What the command lines share: flags in mmdet's grammar, and mistakes that end in one sentence.

Imports neither torch nor the OpenMMLab libraries, so that ``--help`` answers at once.
"""

import argparse
import os
import re
import select
import shlex
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from fvnet_mm.errors import Stopped, UserError


def tool_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the flags that ``tools/train.py`` and ``tools/test.py`` share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("config", type=Path, help="config file, such as configs/retinanet_fvnet_s_coco.py")
    parser.add_argument("--work-dir", type=Path, help="folder for logs, checkpoints and pictures")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--demo",
        action="store_true",
        help="run on a small generated data set, with schedule and images scaled down to minutes on a CPU",
    )
    source.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="run on a folder of your own: COCO layout for detectors (annotations/instances_{train,val}*.json and "
        "image folders), ADE20K layout for segmentors ({images,annotations}/{training,validation}, classes.txt), class "
        "folders for classifiers ({train,val}/CLASS/)",
    )
    parser.add_argument(
        "--backbone",
        metavar="NAME",
        help="put the backbone described in configs/_base_/backbones/NAME.py in place of the config's own, "
        "with PATH.py one that you describe (docs/own_backbone.md), with timm:NAME any model of timm",
    )
    parser.add_argument(
        "--skip-bad-images",
        action="store_true",
        help="leave out images that cannot be decoded (listed) instead of stopping",
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        metavar="KEY=VALUE",
        default=[],
        help="override settings of the config, e.g. optim_wrapper.optimizer.lr=2e-4 model.neck.num_outs=4",
    )
    parser.add_argument("--seed", type=seed, help="seed of every random generator (default: the config's)")
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm", "mpi"],
        default="none",
        help="who started the processes of a distributed run",
    )
    parser.add_argument("--local-rank", "--local_rank", type=int, default=0, help=argparse.SUPPRESS)
    return parser


def add_initial_weights(parser: argparse.ArgumentParser) -> None:
    """The flags of a training that choose its initial weights."""
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument(
        "--weights",
        metavar="FILE",
        help="start the backbone from this file or URL instead of the weights that the config names",
    )
    weights.add_argument("--scratch", action="store_true", help="start from random weights, as --demo does anyway")
    parser.add_argument(
        "--pretraining",
        choices=["plain", "distilled"],
        help="whether a teacher took part in the pretraining of --weights; either kind has tables of its own",
    )


def test_command(arguments: argparse.Namespace, checkpoint: Path | None) -> str:
    """The command line that tests what a command line of ``tools/train.py`` has trained, to be typed as it is.

    Where the training has left no checkpoint it says so.
    """
    if checkpoint is None:
        return "nothing to test: the run has left no checkpoint"
    words = [sys.executable, Path(sys.argv[0]).with_name("test.py"), arguments.config, checkpoint]
    for flag in ("--demo", "--skip-bad-images"):
        words += [flag] if getattr(arguments, flag[2:].replace("-", "_")) else []
    for flag in ("--data", "--backbone", "--work-dir"):
        value = getattr(arguments, flag[2:].replace("-", "_"))
        words += [flag, value] if value is not None else []
    options = [option for option in arguments.cfg_options if not option.startswith(_TRAINING_ONLY)]
    settings = dict(option.partition("=")[::2] for option in options)
    for key in [key for key in settings if key.startswith("val_")]:  # the test is of what the training evaluated on
        settings.setdefault(f"test_{key.removeprefix('val_')}", settings.pop(key))
    options = [f"{key}={value}" for key, value in settings.items()]
    words += ["--cfg-options", *options] if options else []
    return shlex.join(map(str, words))


_TRAINING_ONLY = (
    "train_",
    "optim_wrapper",
    "param_scheduler",
    "auto_scale_lr",
    "default_hooks",
    "custom_hooks",
    "load_from",
    "model.backbone.init_cfg",
)


def seed(text: str) -> int:
    """The type of an argument that is a seed."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"a seed is a whole number from 0 to {2**32 - 1}, not {text!r}")
    return int(text)


def count(text: str, least: int = 1) -> int:
    """The type of an argument that is a number of things."""
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"a whole number of at least {least} is needed, not {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """The type of an argument that is a length of time."""
    if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", text):
        raise argparse.ArgumentTypeError(f"takes a number of seconds such as 0.25, not {text!r}")
    return float(text)


def run_tool(main: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser) -> None:
    """Parses the command line, runs ``main`` and turns a user's mistake into one sentence and exit status 2."""
    arguments = parser.parse_args()
    # mmengine imports it in several places, and each says so; setup.py pins the setuptools that still has it.
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
    os.environ.setdefault("LOCAL_RANK", str(getattr(arguments, "local_rank", 0)))
    try:
        main(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except UserError as error:
        sys.exit(_complain(str(error)))
    except Stopped as stop:
        if str(stop):  # of several processes one speaks
            print(stop, file=sys.stderr, flush=True)
        sys.exit(128 + stop.signal_number)
    except KeyboardInterrupt:
        resumable = hasattr(arguments, "resume")
        print("\ninterrupted" + "; --resume goes on from the last checkpoint" * resumable, file=sys.stderr)
        sys.exit(130)


def _nobody_reads() -> bool:
    """Whether what read the standard output, such as head, has seen enough and is gone."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)  # asks for nothing; that the other end is closed is told always
    return bool(output.poll(0))


def _complain(sentence: str) -> int:
    print(f"error: {' '.join(sentence.split())}", file=sys.stderr)
    return 2


def show_progress(text: str) -> None:
    """Overwrites one line of the terminal, if there is one; an empty text clears it."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text[: shutil.get_terminal_size().columns - 1]}", end="", file=sys.stderr, flush=True)
