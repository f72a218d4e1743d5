from types import SimpleNamespace

import pytest
import torch
from mmengine.model import MomentumAnnealingEMA
from mmengine.optim import OptimWrapper
from torch import nn

from fvnet_mm.engine.averaging import StepEMAHook


def averaged(accumulation: int, **settings: int) -> MomentumAnnealingEMA:
    """Average over six steps of a linear regression whose batches of 12 come in ``accumulation`` parts."""
    torch.manual_seed(0)
    model = nn.Linear(4, 1).double()
    inputs = torch.randn(6, 12, 4, dtype=torch.double)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), accumulative_counts=accumulation)
    runner = SimpleNamespace(model=model, optim_wrapper=wrapper, iter=0, epoch=0)
    hook = StepEMAHook(ema_type="MomentumAnnealingEMA", momentum=0.3, gamma=2, **settings)
    hook.before_run(runner)
    wrapper.initialize_count_status(model, 0, 6 * accumulation)
    for batch in inputs:
        for part in batch.chunk(accumulation):
            wrapper.update_params((model(part) - part.sum(1, keepdim=True)).square().mean())
            hook.after_train_iter(runner, runner.iter)
            runner.iter += 1
    return hook.ema_model


@pytest.mark.parametrize("accumulation", [2, 3, 12])
def test_accumulating_gradients_does_not_change_the_average(accumulation: int):
    accumulated, plain = averaged(accumulation), averaged(1)
    assert accumulated.steps == plain.steps == 6
    torch.testing.assert_close(accumulated.module.weight, plain.module.weight)


@pytest.mark.parametrize(("accumulation", "steps"), [(1, 3), (2, 5), (3, 5)])
def test_the_beginning_is_counted_in_forward_passes(accumulation: int, steps: int):
    """The fourth is in the fourth step of six, or the second."""
    assert averaged(accumulation, begin_iter=4).steps == steps
