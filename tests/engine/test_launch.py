"""How a config is changed for the processes of a distributed run."""

import pytest
import torch
from mmengine.config import Config

from fvnet_mm.engine.launch import start_processes


@pytest.mark.parametrize(
    ("settings", "wrapper"),
    [
        ({}, dict(broadcast_buffers=False, find_unused_parameters=False)),
        (dict(find_unused_parameters=True), dict(broadcast_buffers=False, find_unused_parameters=True)),
        (dict(model_wrapper_cfg=dict(static_graph=True)), dict(static_graph=True)),
    ],
)
def test_the_wrapper_on_cpus_is_the_configs(
    settings: dict[str, object], wrapper: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    joined = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend, timeout: joined.append(backend))
    cfg = Config(dict(launcher="pytorch", **settings))  # and no env_cfg
    start_processes(cfg)
    assert joined == ["gloo"]
    assert cfg.model_wrapper_cfg == dict(type="MMDistributedDataParallel", device_ids=None, **wrapper)


def test_a_wrapper_of_another_kind_gets_no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend, timeout: None)
    own = dict(type="MMFullyShardedDataParallel", cpu_offload=True)
    cfg = Config(dict(launcher="pytorch", model_wrapper_cfg=own))
    start_processes(cfg)
    assert cfg.model_wrapper_cfg == own
