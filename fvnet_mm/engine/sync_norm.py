"""Batch norm over the processes of a run on CPUs, where torch has none."""

import torch
import torch.distributed.nn.functional as collective
from mmengine.dist import get_world_size
from mmengine.registry import MODELS
from torch import nn


@MODELS.register_module()
class ProcessSyncBN(nn.BatchNorm2d):
    """What ``nn.SyncBatchNorm`` is on GPUs: mean and variance are those of the batch of all processes together.

    Two differentiable sums over the processes a forward pass: of the values and their number, then of the squares of
    the differences from the mean, so that no digits are lost to a large mean.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalizes a map (N, C, H, W); the processes may have different N, H and W."""
        if not self.training or get_world_size() == 1:
            return super().forward(input)
        count = input.new_full((1,), input.numel() / input.shape[1])
        sums = collective.all_reduce(torch.cat([input.sum((0, 2, 3)), count]))
        mean, total = sums[:-1] / sums[-1], sums[-1].detach()
        centred = input - mean[:, None, None]
        variance = collective.all_reduce(centred.square().sum((0, 2, 3))) / total
        self._note(mean.detach(), variance.detach() * total / (total - 1))
        scale = self.weight / torch.sqrt(variance + self.eps)
        return centred * scale[:, None, None] + self.bias[:, None, None]

    @torch.no_grad()
    def _note(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        """Moves the running statistics, as ``nn.BatchNorm2d`` does."""
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
