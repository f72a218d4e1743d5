"""Records that are there when a run begins: of the training that it resumes, or of the checkpoint that it tests."""

import logging
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.logging import print_log

from fvnet_mm.engine.run_facts import changes_of_trunk, digest_of_data
from fvnet_mm.errors import UserError
from fvnet_mm.files import sha256_of
from fvnet_mm.records import Data, Protocol, RunRecord
from fvnet_mm.records.from_config import TEST_FIELDS
from fvnet_mm.records.reading import RECORD, NewerRecord, read_record


def resumed_record(checkpoint: Path | None) -> RunRecord | None:
    """The record of the training that goes on from a checkpoint, None without one; what cannot be read is set aside.

    Raises:
        NewerRecord: A newer version has written it.
    """
    file = checkpoint.parent / RECORD if checkpoint else None
    if file is None or not file.exists():
        return None
    try:
        record = read_record(file)
    except NewerRecord:
        raise
    except UserError as error:
        _warn(f"{error} The record begins anew; that file is {set_aside(file)} now.")
        return None
    return record if record.origin == "train" else None


def continued_protocol(earlier: RunRecord, now: RunRecord) -> Protocol:
    """The protocol of a resumed training, which began under that of the first record; warns where it goes on otherwise.

    Resumed weights began from what the first record says; all else should be as it was. What is not, is None from then
    on, "not known": a run of two protocols is of neither. Neither is it a seed of the trunk that it goes on with if it
    began with another one, so that its initial weights are unknown then.
    """
    then = earlier.protocol.model_dump(exclude={"fingerprint"})
    differences = earlier.protocol.differences(now.protocol)
    differences.pop("pretraining", None)
    trunks = changes_of_trunk(earlier.backbone, now.backbone)
    new = trunks | {name: pair for name, pair in differences.items() if pair[0] is not None}
    if new:
        changes = ", ".join(f"{name} {old} then and {new} now" for name, (old, new) in new.items())
        _warn(
            f"the training goes on under another protocol than it began, so that no table ranks it beside runs of "
            f"either: {changes}"
        )
    mixed = dict.fromkeys([*differences, *(["pretraining"] if trunks else [])])
    return Protocol(**(then | mixed))


def record_of_training(checkpoint: Path) -> RunRecord | None:
    """The record of the training that wrote this very checkpoint, from the checkpoint's folder."""
    try:
        record = read_record(checkpoint.parent / RECORD)
    except UserError:  # there is none, or it tells nothing
        return None
    written = record.origin == "train" and record.checkpoint_sha256
    return record if written and record.checkpoint_sha256 == sha256_of(checkpoint) else None


def inherited_fields(training: RunRecord, data: Data) -> dict[str, object]:
    """What a test's protocol takes over from the training of the checkpoint, and what neither can know.

    Args:
        training: Its record.
        data: That the test reads.
    """
    fields = training.protocol.model_dump(exclude={*TEST_FIELDS, "fingerprint"})
    split = training.data.train if training.data else None
    fields["data"] = digest_of_data(data.model_copy(update=dict(train=split)))
    # None where the training went on with another model or other data than it began with.
    return fields | {name: None for name in ("data", "model") if getattr(training.protocol, name) is None}


def is_kept(file: Path) -> bool:
    """Whether a record is there that a test must not write over: a training's, or one that cannot be read."""
    if not file.exists():
        return False
    try:
        return read_record(file).origin != "test"
    except UserError:
        return True


def set_aside(file: Path) -> Path:
    """Where the main process has moved a record that cannot be read."""
    aside = file.with_name(f"unreadable_{file.name}")
    if is_main_process():
        file.replace(aside)
    return aside


def _warn(sentence: str) -> None:
    print_log(sentence, "current", logging.WARNING)
