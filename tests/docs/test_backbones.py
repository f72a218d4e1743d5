import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import timm
import torchvision

ROOT = Path(__file__).parents[2]
DESCRIPTION = """
backbone_name = "tiny"
weights = dict(
    url="https://huggingface.co/timm/resnet18.x/resolve/main/model.safetensors",
    license="mit", distilled=True, epochs=90, top1=12.5, source="nobody",
)
backbone = dict(type="TimmBackbone", model_name="resnet18", out_indices=(0, 1, 2, 3))
channels = (64, 128, 256, 512)
"""


@pytest.fixture
def page(tmp_path):
    """The page of one description, given by its text."""
    spec = spec_from_file_location("docs_backbones", ROOT / "docs" / "backbones.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)

    def write(text: str) -> str:
        (tmp_path / "tiny.py").write_text(text, encoding="utf-8")
        return module.page(tmp_path)

    return write


def test_page_is_current_and_has_every_description(script):
    assert script("backbones", "--check") == ""
    text = (ROOT / "docs" / "backbones.md").read_text(encoding="utf-8")
    for path in (ROOT / "configs" / "_base_" / "backbones").glob("*.py"):
        assert text.count(f"| `{path.stem}` |") == 2


def test_rows(page):
    networks, weights = re.findall(r"^\| `tiny` \| (.*) \|$", page(DESCRIPTION), flags=re.MULTILINE)
    size, macs = networks.split(" | ")[1:3]
    resnet = timm.create_model("resnet18", num_classes=0)
    assert float(size) == pytest.approx(sum(p.numel() for p in resnet.parameters()) / 1e6, abs=0.005)
    published = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["_ops"]  # the classifier's 0.0005 included
    assert float(macs) == pytest.approx(published, abs=0.006)
    assert networks.split(" | ")[3:] == ["64, 128, 256, 512", "4, 8, 16, 32"]
    assert weights.startswith("12.5 | 224 | distilled | 90 | mit | [resnet18.x](https://huggingface.co/timm/")


def test_resolution_and_what_is_not_known(page):
    assert "| 12.5 | 288 | distilled |" in page(DESCRIPTION.replace("top1=12.5", "top1=12.5, resolution=288"))
    unknown = DESCRIPTION.replace("12.5", "None").replace("True", "None").replace("90", "None").replace('"mit"', "None")
    assert "| – | – | – | – | – | [resnet18.x]" in page(unknown)
    without = re.sub(r"weights = dict\(.*?\n\)", "weights = None", DESCRIPTION, flags=re.DOTALL)
    assert "| none published |" in page(without)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("weights = ", "wheights = ", "lacks weights"),
        ("epochs=90, ", "", "epochs is not right"),
        ("epochs=90, ", "epochs=90, epoch=90, ", "epoch is not right"),
        ('"nobody"', "None", "what they have no source for"),
        ("(64, ", "(65, ", "says channels=.* but the network has"),
    ],
)
def test_complaints(page, old, new, message):
    assert old in DESCRIPTION
    with pytest.raises(ValueError, match=message):
        page(DESCRIPTION.replace(old, new))
