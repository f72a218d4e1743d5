import inspect
import re
from pathlib import Path

import mmcv
import pytest
import torch
from mmcv import _ext
from mmcv.ops import box_iou_rotated
from mmcv.utils import collect_env

from fvnet_mm.ops import operators

BINDINGS = Path(mmcv.__file__).parent / "ops" / "csrc" / "pytorch" / "pybind.cpp"


@pytest.mark.skipif(not BINDINGS.exists(), reason="this mmcv comes without the sources of its bindings")
@pytest.mark.parametrize("name", operators.__all__)
def test_arguments_are_those_of_the_compiled_operator(name: str) -> None:
    declaration = re.search(rf'm\.def\("{name}",(.*?)\);', BINDINGS.read_text(), re.DOTALL)
    expected = re.findall(r'py::arg\("(\w+)"\)', declaration.group(1))
    assert list(inspect.signature(getattr(operators, name)).parameters) == expected


@pytest.mark.parametrize("name", ["nms_rotated", "ms_deform_attn_forward", "carafe_forward"])
def test_operator_not_served_raises_when_called(name: str) -> None:
    operator = getattr(_ext, name)
    with pytest.raises(NotImplementedError, match=rf"'{name}' needs compiled mmcv.*wheel.*build mmcv from source"):
        operator(torch.zeros(1), mode=0)


def test_public_function_of_an_operator_not_served_names_it() -> None:
    with pytest.raises(NotImplementedError, match="'box_iou_rotated'"):
        box_iou_rotated(torch.zeros(1, 5), torch.zeros(1, 5))


def test_private_names_are_no_operators() -> None:
    with pytest.raises(AttributeError, match="'_nms'"):
        _ext._nms  # noqa: B018


def test_environment_report_says_what_serves_the_operators() -> None:
    environment = collect_env()
    assert "torchvision" in environment["MMCV Compiler"]
    assert environment["MMCV CUDA Compiler"] == (torch.version.cuda or "not available")
