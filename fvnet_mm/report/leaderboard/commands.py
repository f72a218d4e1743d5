"""What the commands of ``tools/leaderboard.py`` do.

Each imports late: comparing takes libraries for which tables would have to wait.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from fvnet_mm.cli import show_progress
from fvnet_mm.errors import UserError
from fvnet_mm.files import write_text, written_or_said


def build(arguments: argparse.Namespace) -> None:
    """Writes the tables, or says which of their files are stale; exits with 1 where the flags ask for it."""
    from fvnet_mm.report.leaderboard.tables import build_leaderboard
    from fvnet_mm.report.leaderboard.writing import stale_files, write_leaderboard

    leaderboard = build_leaderboard(arguments.folders, arguments.published, arguments.verify)
    stale = []
    if arguments.check:
        stale = stale_files(leaderboard, arguments.out, arguments.html)
        print("\n".join(f"{file} is stale" for file in stale) or f"{arguments.out} is up to date")
    else:
        written = write_leaderboard(leaderboard, arguments.out, arguments.html, arguments.figures)
        rows = sum(len(table.rows) for table in leaderboard.tables)
        print(f"{rows} rows in {len(leaderboard.tables)} tables: {len(written)} files in {arguments.out}")
    for problem in leaderboard.problems:
        print(f"problem: {problem}", file=sys.stderr)
    if stale or (arguments.strict and leaderboard.problems):
        sys.exit(1)


def import_run(arguments: argparse.Namespace) -> None:
    """Writes the record of a stock work dir."""
    from fvnet_mm.records.reading import RECORD, write_record
    from fvnet_mm.report.importing import import_work_dir

    out = arguments.out or arguments.folder / RECORD
    if out.exists():
        raise UserError(f"{out} exists already; --out FILE names another place, or move it away.")
    record = import_work_dir(arguments.folder, out.parent)
    with written_or_said(str(out)):
        write_record(record, out)
    print(f"wrote {out}")


def compare(arguments: argparse.Namespace) -> None:
    """Prints the difference of two runs or rows, and keeps it where the flags ask for it."""
    from fvnet_mm.report.leaderboard.reproduce import find_runs
    from fvnet_mm.report.statistics.compare import compare_seeds
    from fvnet_mm.report.statistics.comparison import format_comparison
    from fvnet_mm.report.statistics.runs import Run

    sides = [find_runs(side, arguments.folders) for side in (arguments.a, arguments.b)]
    comparison = compare_seeds(
        *([Run(run.record, run.folder) for run in side] for side in sides),
        resamples=arguments.resamples,
        progress=lambda what, done, total: show_progress(f"{done:,} of {total:,}, {what}" if done < total else ""),
        allow_other_protocol=arguments.allow_other_protocol,
        ground_truth=arguments.ground_truth,
    )
    print(format_comparison(comparison))
    if arguments.json is not None:
        with written_or_said(str(arguments.json)):
            write_text(arguments.json, json.dumps(asdict(comparison), indent=1, allow_nan=False) + "\n")


def reproduce(arguments: argparse.Namespace) -> None:
    """Prints what makes a row again, and the verdict on a repetition; exits with 1 where it is another result."""
    from fvnet_mm.report.leaderboard.reproduce import describe_row, find_row, judge, run_of

    again = run_of(arguments.against) if arguments.against is not None else None
    runs = find_row(arguments.row, arguments.folders, again)
    print(describe_row(runs))
    if again is not None:
        verdict = judge(runs, again, arguments.metric, arguments.ground_truth)
        print(f"\n{verdict.sentence}")
        if not verdict.within:
            sys.exit(1)
