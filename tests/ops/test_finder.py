import importlib.util
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import fvnet_mm
from fvnet_mm.ops import FallbackFinder, has_compiled_ops, install_fallback

REPOSITORY = Path(fvnet_mm.__file__).parents[1]


def run_python(code: str, *arguments: str) -> str:
    """Runs code in a fresh interpreter that finds fvnet_mm, and returns what it prints."""
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture
def compiled_mmcv(tmp_path: Path) -> Path:
    """A folder with an mmcv that has its extension module."""
    package = tmp_path / "mmcv"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "_ext.py").write_text("def nms():\n    return 'compiled'\n")
    return tmp_path


def test_importing_the_package_imports_nothing_heavy() -> None:
    loaded = run_python("""
        import sys
        import fvnet_mm
        fvnet_mm.ops.has_compiled_ops()
        print(sorted({"torch", "torchvision", "numpy", "mmcv", "mmengine"} & set(sys.modules)))
    """)
    assert loaded == "[]\n"


def test_hook_is_last_and_single() -> None:
    install_fallback()
    install_fallback()
    assert [isinstance(finder, FallbackFinder) for finder in sys.meta_path].count(True) == 1
    in_new_interpreter = run_python("""
        import sys
        import fvnet_mm
        print(type(sys.meta_path[-1]).__name__)
    """)
    assert in_new_interpreter == "FallbackFinder\n"


@pytest.mark.parametrize("name", ["mmcv", "mmcv._ext2", "_ext", "mmcv.ops", "mmcv._ext.nms"])
def test_hook_answers_for_no_other_name(name: str) -> None:
    assert FallbackFinder().find_spec(name) is None


def test_spec_is_found_before_and_after_the_import() -> None:
    before = importlib.util.find_spec("mmcv._ext")
    import mmcv._ext

    assert before.origin == mmcv._ext.__file__ == str(REPOSITORY / "fvnet_mm" / "ops" / "operators.py")
    assert importlib.util.find_spec("mmcv._ext") is mmcv._ext.__spec__
    assert not has_compiled_ops()


def test_mmengine_and_mmcv_see_the_operators() -> None:
    from mmcv.utils.ext_loader import check_ops_exist
    from mmengine.utils.dl_utils import mmcv_full_available

    assert check_ops_exist()
    assert mmcv_full_available()


def test_compiled_operators_come_first(compiled_mmcv: Path) -> None:
    printed = run_python(
        """
        import sys
        sys.path.insert(0, sys.argv[1])
        import fvnet_mm
        print(fvnet_mm.ops.has_compiled_ops(), "mmcv" in sys.modules)
        import mmcv._ext
        print(mmcv._ext.nms(), mmcv._ext.__file__, hasattr(mmcv._ext, "softnms"))
        print(fvnet_mm.ops.has_compiled_ops(), "fvnet_mm.ops.nms" in sys.modules)
        """,
        str(compiled_mmcv),
    )
    assert printed.splitlines() == [
        "True False",
        f"compiled {compiled_mmcv / 'mmcv' / '_ext.py'} False",
        "True False",
    ]


def test_compiled_operators_that_do_not_load_are_not_hidden(compiled_mmcv: Path) -> None:
    (compiled_mmcv / "mmcv" / "_ext.py").write_text("raise ImportError('undefined symbol')\n")
    printed = run_python(
        """
        import sys
        sys.path.insert(0, sys.argv[1])
        import fvnet_mm
        try:
            import mmcv._ext
        except ImportError as error:
            print(error)
        """,
        str(compiled_mmcv),
    )
    assert printed == "undefined symbol\n"


def test_no_compiled_operators_without_mmcv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mmcv", None)
    assert not has_compiled_ops()


def test_libraries_import_after_the_package() -> None:
    run_python("""
        import fvnet_mm
        import mmdet.models, mmseg.models, mmpretrain.models
    """)
