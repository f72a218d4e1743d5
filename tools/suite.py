"""Plans, runs and watches a suite: many trainings that one YAML file describes.

python tools/suite.py plan suites/demo.yaml
python tools/suite.py run suites/demo.yaml --jobs 2
python tools/suite.py status suites/demo.yaml
python tools/suite.py resume suites/demo.yaml
python tools/suite.py retry suites/demo.yaml --filter upernet
"""

import argparse
import shlex
import sys
from functools import partial
from pathlib import Path

from fvnet_mm.cli import count, run_tool
from fvnet_mm.errors import UserError


def suite_parser() -> argparse.ArgumentParser:
    """The tool's commands and their flags."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n\n")[0], epilog="COMMAND --help lists the flags of a command."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    plan = commands.add_parser("plan", help="list the jobs, with the time and disk that they are estimated to take")
    _add_suite(plan)
    _add_threads(plan, "torch's own choice")
    plan.add_argument("--no-timing", action="store_true", help="measure nothing; show what was measured before")
    plan.add_argument("--steps", type=count, metavar="N", help="timed steps of each (default: 20 on a GPU, 2 on a CPU)")
    plan.add_argument("--commands", action="store_true", help="print the command line of each job, and nothing else")
    status = commands.add_parser("status", help="show the state of each job")
    _add_suite(status)
    for name, what in (
        ("run", "run what is waiting, and go on with what was interrupted"),
        ("resume", "go on with what was interrupted, from the newest checkpoint"),
        ("retry", "run what has failed again, from its newest checkpoint if it has one"),
    ):
        command = commands.add_parser(name, help=what)
        _add_suite(command)
        _add_threads(command, "cores / processes; on Slurm torch's own choice")
        command.add_argument("--jobs", type=count, metavar="N", help="at once (default: as many as have a GPU, or 1)")
        command.add_argument(
            "--gpus", type=partial(count, least=0), metavar="N", help="of each job (default: 1 where there are any)"
        )
        command.add_argument(
            "--jobs-per-gpu",
            type=count,
            metavar="N",
            help="that share a GPU, or a group of them (default: 1)",
        )
        command.add_argument("--cluster", choices=["local", "slurm"], help="(default: local)")
        command.add_argument("--partition", help="of Slurm")
        command.add_argument("--time", type=count, metavar="MINUTES", help="until Slurm requeues a job (default: 1440)")
        command.add_argument(
            "--sbatch", nargs="+", default=[], metavar="KEY=VALUE", help="further flags of sbatch, such as mem=32GB"
        )
    return parser


def _add_suite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("suite", type=Path, help="YAML file, such as suites/demo.yaml")
    parser.add_argument("--work-dir", type=Path, help="folder of the jobs' work dirs (default: the file's)")
    parser.add_argument("--filter", default="", metavar="TEXT", help="only jobs with TEXT in their name")


def _add_threads(parser: argparse.ArgumentParser, otherwise: str) -> None:
    parser.add_argument("--threads", type=count, metavar="N", help=f"of each process (default: {otherwise})")


def main(arguments: argparse.Namespace) -> None:
    """Each command imports late, so that --help answers at once."""
    from fvnet_mm.suite.reading import read_suite

    suite = read_suite(arguments.suite, arguments.work_dir)
    jobs = [job for job in suite.jobs if arguments.filter in job.name]
    if not jobs:
        raise UserError(f"{arguments.suite} has no job with {arguments.filter!r} in its name; see status.")
    if arguments.command == "plan":
        from fvnet_mm.suite.plan import show_commands, show_plan

        if arguments.commands:
            show_commands(jobs)
        elif not show_plan(suite, jobs, arguments.steps, arguments.threads, timing=not arguments.no_timing):
            sys.exit(1)
        return
    from fvnet_mm.suite.running import states_of
    from fvnet_mm.suite.tables import show_states

    if arguments.command == "status":
        show_states(jobs, states_of(jobs))
        print(f"so far: python tools/leaderboard.py {shlex.quote(str(suite.work_dir))}")
    else:
        from fvnet_mm.suite.commands import execute

        if not execute(suite, jobs, arguments):
            sys.exit(1)


if __name__ == "__main__":
    run_tool(main, suite_parser())
