"""The records that are kept in results/: their commands can be typed again."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from fvnet_mm.records.reading import find_records, read_record

ROOT = Path(__file__).parents[2]
RECORDS = find_records(ROOT / "results")


def test_commands_are_understood() -> None:
    spec = spec_from_file_location("train", ROOT / "tools" / "train.py")
    train = module_from_spec(spec)
    spec.loader.exec_module(train)
    parser = train.train_parser()
    assert RECORDS
    for file in RECORDS:
        python, tool, *words = read_record(file).command
        assert (python, tool) == ("python", "tools/train.py"), file
        try:
            config = parser.parse_args(words).config
        except SystemExit:
            pytest.fail(f"the command of {file} cannot be typed")
        assert (ROOT / config).is_file(), file
