"""Evaluates a checkpoint and draws what it sees.

python tools/test.py configs/retinanet_fvnet_s_coco.py work_dirs/retinanet_fvnet_s_coco/epoch_12.pth
"""

import argparse

from fvnet_mm.cli import run_tool, tool_parser


def test_parser() -> argparse.ArgumentParser:
    """The tool's flags: those shared with tools/train.py, and the checkpoint."""
    parser = tool_parser(__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="checkpoint of a run of the same config: a file or its URL")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Imports late, so that --help answers at once."""
    from fvnet_mm.engine.session import test
    from fvnet_mm.report.run import report

    report(test(arguments))


if __name__ == "__main__":
    run_tool(main, test_parser())
