"""A moving average of the weights that is the same whatever the number of devices."""

from mmengine.hooks import EMAHook
from mmengine.hooks.hook import DATA_BATCH
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class StepEMAHook(EMAHook):
    """mmengine's ``EMAHook``, but averaging once an optimizer step.

    mmengine's averages after every forward pass. Where gradients are accumulated over several of them it would
    count the same weights as often, and its average would reach back the less far. ``begin_iter`` stays in forward
    passes, and no accumulation stretches it; ``begin_epoch`` is the same whatever the accumulation.
    """

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None, outputs: dict | None = None
    ) -> None:
        if runner.optim_wrapper.should_update():  # its count has moved on: whether the optimizer just stepped
            super().after_train_iter(runner, batch_idx, data_batch, outputs)
