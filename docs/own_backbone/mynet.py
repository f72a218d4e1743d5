from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import nn


@MODELS.register_module()
class MyNet(BaseModule):
    """Four stages at strides 4, 8, 16 and 32."""

    def __init__(self, out_indices: Sequence[int] = (0, 1, 2, 3), init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.out_indices = tuple(out_indices)
        widths, steps = (3, 16, 32, 64, 128), (4, 2, 2, 2)
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(widths[i], widths[i + 1], 2 * steps[i] - 1, steps[i], steps[i] - 1),
                nn.BatchNorm2d(widths[i + 1]),
                nn.ReLU(),
            )
            for i in range(max(self.out_indices) + 1)
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return tuple(maps[index] for index in self.out_indices)
