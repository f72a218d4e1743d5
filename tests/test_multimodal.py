import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


NEW, OLD = "", "def apply_chunking_to_forward(): ..."
"""What modeling_utils of a transformers after and before 4.57 has, as far as it matters."""


def imported(code: str, modeling_utils: str, tmp_path: Path) -> subprocess.CompletedProcess:
    """Runs code in an interpreter that believes a transformers to be installed that has this and nothing else."""
    package = tmp_path / "transformers"
    package.mkdir()
    names = ("AutoConfig", "PreTrainedModel", "AutoModelForCausalLM")
    (package / "__init__.py").write_text("\n".join(f"class {name}: ..." for name in names))
    (package / "models" / "auto").mkdir(parents=True)
    (package / "models" / "auto" / "auto_factory.py").write_text("class _BaseAutoModelClass: ...\n")
    (package / "modeling_utils.py").write_text(modeling_utils)
    about = tmp_path / "transformers-5.0.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 5.0.0\n")
    code = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(tmp_path)!r}]\nimport fvnet_mm\n{code}"
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)


def test_mmpretrain_beside_a_new_transformers(tmp_path: Path) -> None:
    code = "import mmpretrain.models as m; print(m.MODELS.get('BlipCaption').__name__, m.ResNet.__name__)"
    ended = imported(code, NEW, tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "ask_install ResNet\n"), ended.stderr


def test_mmpretrain_alone_fails_there(tmp_path: Path) -> None:
    """Once it does not, the hook can go."""
    code = "sys.meta_path[:] = [f for f in sys.meta_path if type(f).__name__ != 'DependencyFinder']"
    assert imported(f"{code}; import mmpretrain.models", NEW, tmp_path).returncode != 0


def test_an_older_transformers_is_left_to_mmpretrain(tmp_path: Path) -> None:
    code = (
        "import contextlib\n"
        "with contextlib.suppress(TypeError): import mmpretrain.models\n"
        "print(sys.modules['mmpretrain.utils.dependency'].WITH_MULTIMODAL)"
    )
    ended = imported(code, OLD, tmp_path)
    assert ended.stdout == "True\n", ended.stderr
