"""Whether a run was trained on the data that its job names now: a folder counts by what is in it, not by its place."""

from __future__ import annotations

import functools
from pathlib import Path

from fvnet_mm.errors import UserError
from fvnet_mm.records import RunRecord
from fvnet_mm.suite.jobs import Job
from fvnet_mm.suite.schema import DEMO, OWN


def other_data(job: Job, record: RunRecord) -> str:
    """Why a run was not trained on the folder that its job names; empty if it was, as far as can be told.

    A folder at the place that the run has read is not read again: asking is free then, and a change within it goes
    unnoticed. One at another place is the same data if its splits have the fingerprints that are in the record. The
    demo's data and what a config names are told by the job's settings alone.

    Args:
        job: Of a suite.
        record: Of the run in its work dir.
    """
    if job.data in (DEMO, OWN) or job.data in record.command or record.data is None:
        return ""
    began = f"{job.work_dir} holds a run on other data than is in {job.data} now"
    try:
        now = _fingerprints(record.task, Path(job.data))
    except (UserError, OSError) as error:
        return f"{began}: {error}"
    then = {"train": record.data.train, "val": record.data.val}
    changed = [name for name, split in then.items() if split and split.fingerprint not in (None, now[name])]
    return f"{began} ({', '.join(changed)}); move it away" if changed else ""


@functools.lru_cache(maxsize=64)
def _fingerprints(task: str, folder: Path) -> dict[str, str]:
    """Those of a folder's splits, by name; read once, since the states of a suite's jobs are asked for often.

    Raises:
        UserError: The folder has not the layout that the task needs.
        OSError: It cannot be read.
    """
    # Late: they import torch and the OpenMMLab libraries, which telling states does without otherwise.
    from fvnet_mm.data.ade20k_layout import find_ade20k
    from fvnet_mm.data.coco_layout import find_coco
    from fvnet_mm.data.fingerprint import fingerprint
    from fvnet_mm.data.image_folder import find_image_folder

    find = {"semantic_segmentation": find_ade20k, "classification": find_image_folder}.get(task, find_coco)
    found = find(folder)
    return {split.name: fingerprint(split) for split in (found.train, found.val)}
