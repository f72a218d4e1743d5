# What every run shares. `custom_imports` registers the suite's parts from whatever folder a config is loaded.
default_scope = "mmdet"
custom_imports = dict(imports=["fvnet_mm.backbones", "fvnet_mm.engine"], allow_failed_imports=False)
runner_type = "SuiteRunner"
randomness = dict(seed=0)

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="RunCheckpointHook", interval=1, max_keep_ckpts=3, backend_args=dict(backend="atomic")),
    sampler_seed=dict(type="DistSamplerSeedHook"),
)
custom_hooks = [dict(type="ReproducibleEpochHook"), dict(type="ProgressHook")]

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl", timeout=7200),  # seconds: one process may have millions of images to check first
    rank_timeout=600,  # seconds that an iteration of a distributed run may take before it counts as hanging
)
visualizer = dict(type="DetLocalVisualizer", vis_backends=[dict(type="LocalVisBackend")])
log_processor = dict(type="LogProcessor", window_size=50, by_epoch=True)
log_level = "INFO"
load_from = None
resume = False
