"""docs/record.md explains every field of the schema, and its example runs."""

import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from fvnet_mm.records import RunRecord

PAGE = (Path(__file__).parents[2] / "docs/record.md").read_text()


def models_of(annotation: object) -> list[type[BaseModel]]:
    """The schema's classes in an annotation such as ``tuple[Weights, ...] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_of(part)]


def fields_of(model: type[BaseModel]) -> set[str]:
    found = set(model.model_fields) | set(model.model_computed_fields)
    for field in model.model_fields.values():
        for part in models_of(field.annotation):
            found |= fields_of(part)
    return found


def test_every_field_is_explained() -> None:
    fields = fields_of(RunRecord)
    assert {"fingerprint", "world_size", "peak_memory", "per_class"} <= fields
    assert sorted(name for name in fields if f"`{name}`" not in PAGE) == []


def test_no_field_is_explained_that_does_not_exist() -> None:
    explained = set(re.findall(r"`([a-z0-9_]+)`", "".join(re.findall(r"^\| (`.+?) \|", PAGE, re.MULTILINE))))
    assert explained - {"run", "test", "train"} <= fields_of(RunRecord)


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    records = Path(__file__).parents[1] / "report/leaderboard/records"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work_dirs").symlink_to(records)
    exec(re.search(r"```python\n(.+?)```", PAGE, re.DOTALL)[1], {})
    assert len(capsys.readouterr().out.splitlines()) == len(list(records.rglob("run.json")))
