"""Makes the leaderboard of the runs below some folders; imports, compares and repeats runs.

python tools/leaderboard.py work_dirs/
python tools/leaderboard.py work_dirs/ --check --strict
python tools/leaderboard.py import old_work_dirs/retinanet_r50
python tools/leaderboard.py compare work_dirs/retinanet_fvnet_s_coco work_dirs/retinanet_mobilenet_v2_coco
python tools/leaderboard.py reproduce retinanet-fvnet_s-0123abcd --against work_dirs/again
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fvnet_mm.cli import run_tool

COMMANDS = ("build", "import", "compare", "reproduce")


class LeaderboardParser(argparse.ArgumentParser):
    """Takes folders without a command for those of ``build``."""

    def parse_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        words = list(sys.argv[1:] if args is None else args)
        if words and words[0] not in (*COMMANDS, "-h", "--help"):
            words.insert(0, "build")
        return super().parse_args(words, namespace)


def leaderboard_parser() -> argparse.ArgumentParser:
    """The tool's commands and their flags."""
    parser = LeaderboardParser(
        description=__doc__.partition("\n\n")[0],
        epilog="Folders without a command mean build. COMMAND --help lists the flags of a command.",
    )
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=argparse.ArgumentParser
    )

    build = commands.add_parser("build", help="write the tables of all records below some folders")
    build.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="work dirs, or folders of work dirs")
    build.add_argument("--out", type=Path, default=Path("leaderboard"), metavar="DIR", help="(default: leaderboard)")
    build.add_argument("--check", action="store_true", help="write nothing; exit with 1 where the files are stale")
    build.add_argument("--strict", action="store_true", help="exit with 1 where a record is not wholly tabulated")
    build.add_argument("--verify", action="store_true", help="read all predictions, and compare their digests")
    build.add_argument(
        "--published", action=argparse.BooleanOptionalAction, default=True, help="published results beside the tables"
    )
    build.add_argument("--html", action=argparse.BooleanOptionalAction, default=True, help="the page for a browser")
    build.add_argument("--figures", action=argparse.BooleanOptionalAction, default=True, help="the drawings for papers")

    import_ = commands.add_parser("import", help="write a record of a stock mmdet, mmseg or mmpretrain work dir")
    import_.add_argument("folder", type=Path, metavar="DIR", help="work dir with a log and a config")
    import_.add_argument("--out", type=Path, metavar="FILE", help="record to write (default: DIR/run.json)")

    compare = commands.add_parser("compare", help="difference of two runs or rows, with its interval")
    for side in ("a", "b"):
        compare.add_argument(side, metavar=side.upper(), help="work dir, several with commas between them, or a row")
    compare.add_argument(
        "--resamples", type=_resamples, default=10_000, metavar="N", help="of the images (default: 10000)"
    )
    compare.add_argument("--allow-other-protocol", action="store_true", help="compare runs of different protocols")
    compare.add_argument("--json", type=Path, metavar="FILE", help="keep the comparison")
    _add_places(compare)

    reproduce = commands.add_parser("reproduce", help="what it takes to make a row again")
    reproduce.add_argument("row", metavar="ROW", help="its name, or the beginning of it")
    reproduce.add_argument("--against", type=Path, metavar="WORK_DIR", help="judge this repetition of the row")
    reproduce.add_argument("--metric", help="(default: AP, mIoU or top-1)")
    _add_places(reproduce)
    return parser


def _add_places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--folders", nargs="+", type=Path, default=[Path("work_dirs")], help="where rows are (default: work_dirs)"
    )
    parser.add_argument(
        "--ground-truth", type=Path, metavar="PLACE", help="annotation file or folder of labels, if it was moved"
    )


def _resamples(text: str) -> int:
    if not text.isdecimal() or int(text) < 100:
        raise argparse.ArgumentTypeError(f"a 95 % interval takes 100 resamples or more, not {text!r}")
    return int(text)


def main(arguments: argparse.Namespace) -> None:
    """Imports late, so that --help answers at once."""
    from fvnet_mm.report.leaderboard import commands

    {
        "build": commands.build,
        "import": commands.import_run,
        "compare": commands.compare,
        "reproduce": commands.reproduce,
    }[arguments.command](arguments)


if __name__ == "__main__":
    run_tool(main, leaderboard_parser())
