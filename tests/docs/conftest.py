from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a script of docs/ as its command line would; returns what it complains of on exit, '' if nothing."""

    def call(name: str, *words: str | Path) -> str:
        monkeypatch.syspath_prepend(ROOT / "docs")
        monkeypatch.setattr("sys.argv", [name, *map(str, words)])
        spec = spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        try:
            module.main()
        except SystemExit as stop:
            return str(stop.code)
        return ""

    return call
