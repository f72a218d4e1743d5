"""Trains a detector, a segmentor or a classifier, evaluates it on the way and draws what it sees.

python tools/train.py configs/retinanet_fvnet_s_coco.py --demo
python tools/train.py configs/retinanet_fvnet_s_coco.py --data my_coco_folder --amp bf16
"""

import argparse
from functools import partial

from fvnet_mm.cli import add_initial_weights, count, run_tool, test_command, tool_parser


def train_parser() -> argparse.ArgumentParser:
    """The tool's flags: those shared with tools/test.py, and what only training has."""
    parser = tool_parser(__doc__.splitlines()[0])
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="PATH",
        help="go on from PATH, or without a PATH from the newest intact checkpoint of the work dir",
    )
    parser.add_argument(
        "--resume-other-config",
        action="store_true",
        help="resume even where trunk, data or protocol are not those that the run began with",
    )
    parser.add_argument(
        "--skip-nonfinite",
        type=partial(count, least=0),
        default=0,
        metavar="N",
        help="leave out up to N optimizer steps whose loss or gradient is not finite (default: stop at the first)",
    )
    add_initial_weights(parser)
    parser.add_argument(
        "--amp",
        nargs="?",
        const="bf16",
        choices=["bf16", "fp16"],
        help="mixed precision on a GPU (default bf16)",
    )
    parser.add_argument(
        "--channels-last",
        action="store_true",
        help="keep images and weights in memory pixel by pixel, not channel by channel",
    )
    parser.add_argument(
        "--compile", action="store_true", help="compile backbone and neck with torch.compile (minutes at the start)"
    )
    parser.add_argument(
        "--cuda-graphs",
        action="store_true",
        help="replay backbone and neck as CUDA graphs (one GPU, batches of one size): small trunks wait less",
    )
    parser.add_argument(
        "--auto-scale-lr",
        action="store_true",
        help="scale the learning rate with the batch instead of accumulating gradients to the tuned batch",
    )
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Imports late, so that --help answers at once."""
    from fvnet_mm.engine.session import train
    from fvnet_mm.report.run import report

    result = train(arguments)
    report(result, next_command=test_command(arguments, result.checkpoint))


if __name__ == "__main__":
    run_tool(main, train_parser())
