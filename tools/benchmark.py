"""Times trunks and whole models side by side: random weights, no data, interleaved rounds.

python tools/benchmark.py fvnet_t mobilenet_v2 timm:repvit_m0_9 --fuse --sizes 224 512
python tools/benchmark.py configs/retinanet_fvnet_s_coco.py --backbone repvit_m1_1 --sizes 800x1333 --device cuda
"""

import argparse
from datetime import datetime
from pathlib import Path

from fvnet_mm.cli import count, run_tool, seconds, show_progress
from fvnet_mm.errors import UserError


def benchmark_parser() -> argparse.ArgumentParser:
    """The tool's flags."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "models",
        nargs="+",
        metavar="CONFIG_OR_TRUNK",
        help="config files, backbones by name (python -m fvnet_mm.list --backbones) or by PATH.py, or timm:NAME",
    )
    parser.add_argument(
        "--backbone", nargs="+", default=[], metavar="NAME", help="measure each config with these trunks, too"
    )
    parser.add_argument("--baseline", metavar="MODEL", help="what ratios are to (default: the first)")
    parser.add_argument("--work-dir", type=Path, metavar="DIR", help="(default: work_dirs/benchmark_DATE_TIME)")

    what = parser.add_argument_group("what is timed")
    what.add_argument(
        "--what",
        nargs="+",
        choices=["trunk", "model", "predict"],
        help="trunk; model: with neck and heads; predict: from bytes to results (default: all that there are)",
    )
    what.add_argument("--training", action="store_true", help="training steps: forward, backward, optimizer")
    what.add_argument(
        "--sizes",
        nargs="+",
        type=_size,
        metavar="SIZE",
        help="images: 320, or HEIGHTxWIDTH as in 800x1333 (default: 224, with configs 512)",
    )
    what.add_argument(
        "--batch",
        nargs="+",
        type=_batch,
        metavar="N",
        help="images in a batch; max: as many as fit a GPU (default: 1 8 on a CPU, 1 max on a GPU)",
    )

    how = parser.add_argument_group("under which conditions")
    how.add_argument("--device", choices=["cpu", "cuda", "mps"], default="cpu", help="(default: cpu)")
    how.add_argument(
        "--amp",
        "--precision",
        dest="precision",
        nargs="?",
        const="bf16",
        default="float32",
        choices=["float32", "bf16", "fp16"],
        help="autocast (default float32; without a word bf16)",
    )
    how.add_argument("--tf32", action="store_true", help="let float32 products on a GPU use TensorFloat-32")
    how.add_argument("--channels-last", action="store_true", help="memory format of weights and images")
    how.add_argument("--compile", action="store_true", help="run the parts of each model through torch.compile")
    how.add_argument("--fuse", action="store_true", help="re-parameterise trunks and fold their batch norms")
    how.add_argument("--threads", type=count, metavar="N", help="of torch (default: torch's own choice)")
    how.add_argument("--isolate", action="store_true", help="a process for each model")
    how.add_argument("--rounds", type=count, default=20, metavar="N", help="turns of each model (default: 20)")
    how.add_argument(
        "--turn-seconds", type=seconds, default=0.25, metavar="S", help="least length of a turn (default: 0.25)"
    )
    return parser


def _size(text: str) -> tuple[int, int]:
    parts = text.split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) >= 32 for part in parts):
        raise argparse.ArgumentTypeError(f"a size is a number of pixels from 32, or HEIGHTxWIDTH, not {text!r}")
    return int(parts[0]), int(parts[-1])


def _batch(text: str) -> int:
    return 0 if text == "max" else count(text)


def main(arguments: argparse.Namespace) -> None:
    """Imports late, so that --help answers at once."""
    from fvnet_mm.bench.speed.session import plan_of, run_benchmark
    from fvnet_mm.records.benchmark_file import BENCHMARK
    from fvnet_mm.report.benchmark.plots import draw_benchmark
    from fvnet_mm.report.benchmark.tables import show_benchmark

    folder = arguments.work_dir or Path("work_dirs", f"benchmark_{datetime.now():%Y%m%d_%H%M%S}")
    file = folder / BENCHMARK
    if file.exists():
        raise UserError(f"{file} holds a benchmark already; choose another folder with --work-dir.")
    record = run_benchmark(plan_of(arguments), file, show_progress)
    show_benchmark(record)
    for path in (file, *draw_benchmark(record, folder)):
        print(path)


if __name__ == "__main__":
    run_tool(main, benchmark_parser())
