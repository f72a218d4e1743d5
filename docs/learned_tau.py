"""Where training leaves the time constants: read from the checkpoints of the ablation's runs, which are not kept.

python docs/learned_tau.py WORK_DIR ...     adds them to results/ablation/time_constants.json, for docs/ablation.py
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from ablation import TIME_CONSTANTS
from ablation_rows import arguments_of
from ablation_runs import trained_in
from time_constants import load_trunk

from fvnet_mm.backbones import FTFU, FVNet
from fvnet_mm.engine.checkpoint import newest_checkpoint
from fvnet_mm.errors import UserError
from fvnet_mm.files import write_text
from fvnet_mm.records.reading import RECORD, read_record


def moved(work_dir: Path) -> dict[str, object]:
    """Of a finished run of FVNet: its trunk's arguments and, stage by stage, how far its time constants have moved.

    Returns:
        The arguments, what it was trained on and for how long, with the rules by which parameters learn otherwise if
        there are some, the seed, and for each stage the mean and the mean absolute value of
        ln(tau at the end / tau at the start), over blocks, phases and channels.

    Raises:
        UserError: The record or the checkpoint cannot be read, or is of another trunk or one without FTFUs.
    """
    record = read_record(work_dir / RECORD)
    checkpoint, _ = newest_checkpoint(work_dir)
    if checkpoint is None or record.backbone.type != "FVNet":
        raise UserError(f"{work_dir} holds no checkpoint of an FVNet; name work dirs of finished trainings.")
    arguments = arguments_of(record)
    begun, trained = FVNet(**arguments), load_trunk(checkpoint, **arguments)
    stages = []
    for start, end in zip(begun.stages, trained.stages, strict=True):
        units = [[unit.log_tau.detach() for unit in of.modules() if isinstance(unit, FTFU)] for of in (start, end)]
        if not units[0]:
            raise UserError(f"the FVNet of {work_dir} has a stage without time constants; name runs that have FTFUs.")
        before, after = map(torch.cat, units)
        change = after - before
        stages.append(dict(mean=change.mean().item(), mean_absolute=change.abs().mean().item()))
    rules = record.protocol.parameter_rules
    trained = ", ".join((trained_in(record), *((rules,) if rules not in (None, "none") else ())))
    return dict(arguments=arguments, trained=trained, seed=record.seed, stages=stages)


def joined(kept: Sequence[Mapping], found: Sequence[Mapping]) -> list[Mapping]:
    """All of both; what was read again takes the place of what was read before."""
    runs = {json.dumps([each[key] for key in ("arguments", "trained", "seed")]): each for each in (*kept, *found)}
    return list(runs.values())


def main() -> None:
    parser = argparse.ArgumentParser(description="Where training leaves the time constants.")
    parser.add_argument("work_dirs", nargs="+", type=Path, metavar="WORK_DIR", help="of finished trainings of FVNet")
    try:
        found = [moved(folder) for folder in parser.parse_args().work_dirs]
    except UserError as error:
        sys.exit(f"error: {error}")
    kept = json.loads(TIME_CONSTANTS.read_text(encoding="utf-8")) if TIME_CONSTANTS.exists() else []
    write_text(TIME_CONSTANTS, json.dumps(joined(kept, found), indent=1) + "\n")


if __name__ == "__main__":
    main()
