"""What a config says of the protocol. Takes plain dicts, such as ``Config.to_dict()`` of mmengine or a parsed dump."""

from collections.abc import Iterator, Mapping, Sequence

from fvnet_mm.records.loading import evaluated_together, pipeline_in_words, sampling_in_words
from fvnet_mm.records.schema import Task
from fvnet_mm.records.words import Settings, in_words, name_of

_FRAMEWORKS = {
    "RetinaNet": "retinanet",
    "MaskRCNN": "mask_rcnn",
    "FPNHead": "semantic_fpn",
    "UPerHead": "upernet",
    "ImageClassifier": "classification",
    "DistilledImageClassifier": "classification",
}
"""By the type of the model, or of a segmentor's decode head."""

_TASKS: dict[str, Task] = {"mmseg": "semantic_segmentation", "mmpretrain": "classification"}

_OF_OTHERS = ("in_channels", "num_classes")
"""Arguments of a model's parts that follow from the trunk or the data, which are recorded themselves."""

_NORMALISATION = dict(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
"""ImageNet's, which the configs give to every trunk; any other is said, and so is none."""

_OF_WRAPPERS = ("optimizer", "accumulative_counts", "clip_grad", "constructor", "paramwise_cfg")
"""Arguments of an ``optim_wrapper`` that other fields tell."""

_NORMS_OF_A_DEVICE = ("BN", "BN1d", "BN2d", "BN3d")

COUNTED_BY_SCHEDULES = ("T_max", "step_size", "total_steps", "milestones", "periods")
"""What mmengine's schedules count in iterations where they do not count epochs, beside their begin and end."""

_ROUNDING = ("fused", "foreach")
"""Arguments of an optimizer that say how its update is computed, not which."""

_DEFAULT_DECAY = {"AdamW": 0.01}
"""Weight decay of torch's optimizers where a config states none; that of all others is 0."""

_IDLE_HOOKS = (
    "ReproducibleEpochHook",
    "ProgressHook",
    "CheckInvalidLossHook",
    "NumClassCheckHook",
    "MemoryProfilerHook",
    "EmptyCacheHook",
    "DetVisualizationHook",
    "SegVisualizationHook",
)
"""Hooks of configs that watch a training, or make it repeatable, and don't change what it learns."""

_OF_EVALUATION = ("ignore_index", "nan_to_num", "beta", "iou_thrs", "proposal_nums", "maxDets", "thrs")
"""Arguments of evaluators that change figures; they stand in a config where they are not the usual."""

OF_TEACHER = ", teacher's weights "
"""What stands in the protocol's ``model`` before the first digits of the digest of a teacher's weights."""

TEST_FIELDS = ("framework", "data", "model", "test_pipeline", "test_mode")
"""Fields of the protocol that a test decides; all others are the training's."""


def framework_of(model: Settings) -> str:
    """The suite's name of a model config's framework, or the name of its class where it has none."""
    kind = name_of(model)
    head = model.get("decode_head")
    inner = name_of(head) if isinstance(head, Mapping) else kind
    return _FRAMEWORKS.get(inner, kind)


def is_described(cfg: Settings) -> bool:
    """Whether the trunk of a config is the one that its backbone description is of, be it with other arguments.

    A leaf that puts a class of its own into the model still inherits name and weights of its base's description.
    """
    described = cfg.get("backbone")
    if not cfg.get("backbone_name") or not isinstance(described, Mapping):
        return bool(cfg.get("backbone_name"))
    return _network(described) == _network(cfg["model"].get("backbone") or {})


def trunk_name(cfg: Settings) -> str:
    """What the trunk of a config is called: by its description, or by its class, of timm's by the model."""
    if is_described(cfg):
        return str(cfg["backbone_name"])
    kind, timm_model, _ = _network(cfg["model"].get("backbone") or {})
    return timm_model.replace(".", "_").replace("/", "_") if isinstance(timm_model, str) else kind


def _network(trunk: Settings) -> tuple[str, object, object]:
    """The class of a trunk, of timm's models, which all have one class, the model's name, and its size."""
    return name_of(trunk), trunk.get("model_name"), trunk.get("arch")


def task_of(cfg: Settings) -> Task:
    """What the model of a config does, told by its library and, for detectors, by a mask head."""
    scope = str(cfg.get("default_scope"))
    regions = cfg["model"].get("roi_head") or {}
    masks = "mask_head" in regions or "mask_head" in cfg["model"]
    return _TASKS.get(scope, "instance_segmentation" if masks else "detection")


def fields_of_training(cfg: Settings, world_size: int | None) -> dict[str, object]:
    """The fields of :class:`Protocol` that concern training, as far as the config tells them.

    Args:
        cfg: A whole config, with what its bases say.
        world_size: Number of processes; None where nobody knows, and then the batch is unknown, too.
    """
    wrapper = cfg["optim_wrapper"]
    optimizer = wrapper["optimizer"]
    accumulation = wrapper.get("accumulative_counts") or 1
    per_device = cfg["train_dataloader"].get("batch_size")
    base = (cfg.get("auto_scale_lr") or {}).get("base_batch_size")
    scaled = bool((cfg.get("auto_scale_lr") or {}).get("enable")) and bool(base)
    rate = optimizer.get("lr")
    if scaled:  # as mmengine does, which knows of no accumulation
        known = rate is not None and per_device and world_size
        rate = rate * (per_device * world_size) / base if known else None
    loop = cfg["train_cfg"]
    epochs, iterations = loop.get("max_epochs"), loop.get("max_iters")
    own = {key: value for key, value in optimizer.items() if key not in ("lr", "weight_decay", *_ROUNDING)}
    rules = {key: wrapper[key] for key in ("constructor", "paramwise_cfg") if wrapper.get(key)}
    return dict(
        optimizer=in_words(own),
        parameter_rules=in_words(rules) if rules else "none",
        learning_rate=rate,
        weight_decay=optimizer.get("weight_decay", _DEFAULT_DECAY.get(name_of(optimizer), 0.0)),
        learning_rate_rule="linear" if scaled else "fixed",
        effective_batch=per_device * world_size * accumulation if per_device and world_size else None,
        length=epochs if iterations is None else iterations // accumulation,
        length_unit="epoch" if iterations is None else "step",
        schedule=", ".join([_schedule(_schedulers(cfg), accumulation), *_active_hooks(cfg)]),
        train_pipeline=", ".join(
            [
                pipeline_in_words(cfg["train_dataloader"]["dataset"]),
                *sampling_in_words(cfg["train_dataloader"], str(cfg.get("default_scope"))),
                *_norms_by_device(cfg, world_size),
            ]
        ),
        precision=_precision(wrapper),
        gradient_clip=_clip(wrapper.get("clip_grad") or {"max_norm": 0}),
        averaged=", ".join(in_words(hook) for hook in cfg.get("custom_hooks") or () if "EMA" in name_of(hook)) or False,
    )


def _clip(settings: Settings) -> float | str:
    """The Euclidean norm at which gradients are clipped; in words where it is another norm, or single values are."""
    usual = {"type": "norm", "norm_type": 2, **settings}
    if usual.keys() == {"type", "norm_type", "max_norm"} and (usual["type"], usual["norm_type"]) == ("norm", 2):
        return settings["max_norm"]
    return in_words(settings)


def _active_hooks(cfg: Settings) -> list[str]:
    """Hooks that may change a training, but for moving averages, which have a field of their own."""
    hooks = cfg.get("custom_hooks") or ()
    return [in_words(hook) for hook in hooks if name_of(hook) not in _IDLE_HOOKS and "EMA" not in name_of(hook)]


def _norms_by_device(cfg: Settings, world_size: int | None) -> list[str]:
    """What the batch norms of several devices are that take their statistics as no run on one device would.

    Neck and heads have synchronised ones and the trunk each device's own, unless ``sync_bn`` makes all alike.
    """
    if not world_size or world_size == 1:
        return []
    if cfg.get("sync_bn"):
        return ["sync_bn"]
    parts = [part for key, part in (cfg.get("model") or {}).items() if key != "backbone"]
    return ["BN of each device"] if any(kind in _NORMS_OF_A_DEVICE for kind in _types(parts)) else []


def _types(value: object) -> Iterator[object]:
    """All that dicts within a value name as their types."""
    if isinstance(value, Mapping):
        yield value.get("type")
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _types(item)


def fields_of_test(cfg: Settings, loader: str, one_size: bool | None = None) -> dict[str, object]:
    """The fields of :class:`Protocol` that concern the model and its test, but for the data.

    Args:
        cfg: A whole config.
        loader: Which of its loaders the test images come from: 'val_dataloader' or 'test_dataloader'.
        one_size: Whether all its images have one size, so that none is padded to that of another; None for not known.
    """
    model = cfg["model"]
    rest = {key: value for key, value in model.items() if key not in ("backbone", "test_cfg", "pretrained")}
    if isinstance(model.get("data_preprocessor"), Mapping):
        rest["data_preprocessor"] = _without_usual_normalisation(model["data_preprocessor"])
    test_mode = [in_words(model["test_cfg"]) if model.get("test_cfg") else "default"]
    test_mode += _evaluation(cfg.get(loader.replace("dataloader", "evaluator")))
    test_mode += ["fp16"] if (cfg.get(loader.replace("dataloader", "cfg")) or {}).get("fp16") else []
    test_mode += evaluated_together(cfg[loader], str(cfg.get("default_scope")), one_size)
    return dict(
        framework=framework_of(model),
        model=in_words(rest, _OF_OTHERS),
        test_pipeline=pipeline_in_words(cfg[loader]["dataset"]),
        test_mode=", ".join(test_mode),
    )


def _without_usual_normalisation(preprocessor: Settings) -> Settings:
    """A preprocessor's settings, with 'none' where images are not normalised at all."""
    rest = {key: value for key, value in preprocessor.items() if key not in _NORMALISATION}
    stated = {key: preprocessor.get(key) or "none" for key in _NORMALISATION}
    return rest if in_words(stated) == in_words(_NORMALISATION) else rest | stated


def _evaluation(evaluators: Sequence[Settings] | Settings | None) -> list[str]:
    """Settings of evaluators that change figures, where a config states them."""
    evaluators = [evaluators] if isinstance(evaluators, Mapping) else evaluators or []
    stated = [{key: each[key] for key in ("type", *_OF_EVALUATION) if each.get(key) is not None} for each in evaluators]
    return [in_words(each) for each in stated if len(each) > 1]


def _precision(wrapper: Settings) -> str:
    match name_of(wrapper):
        case "" | "OptimWrapper":
            return "float32"
        case "AmpOptimWrapper":
            return str(wrapper.get("dtype") or "float16")
        case _:  # only the wrapper knows
            return in_words({key: value for key, value in wrapper.items() if key not in _OF_WRAPPERS})


def _schedulers(cfg: Settings) -> Sequence[Settings] | Settings | None:
    """Those of a config, none of which acts where the hook that steps them is switched off."""
    hooks = cfg.get("default_hooks") or {}
    return None if hooks.get("param_scheduler", True) is None else cfg.get("param_scheduler")


def _schedule(schedulers: Sequence[Settings] | Settings | None, accumulation: int) -> str:
    """The learning rate's course; what is counted in forward passes becomes optimizer steps."""
    schedulers = [schedulers] if isinstance(schedulers, Mapping) else schedulers or []
    return ", ".join(_scheduler(settings, accumulation) for settings in schedulers) or "constant"


def _scheduler(settings: Settings, accumulation: int) -> str:
    by_epoch = settings.get("by_epoch", True)

    def steps(count: int) -> int | float:
        return count if by_epoch else count // accumulation if count % accumulation == 0 else count / accumulation

    rest = {key: value for key, value in settings.items() if key not in ("type", "by_epoch", "begin", "end", "verbose")}
    for key in COUNTED_BY_SCHEDULES:
        if (value := rest.get(key)) is not None:
            rest[key] = [steps(item) for item in value] if isinstance(value, list | tuple) else steps(value)
    if "Exponential" in name_of(settings) and "gamma" in rest and not by_epoch:  # a factor for every iteration
        rest["gamma"] = float(f"{rest['gamma'] ** accumulation:.9g}")
    end = settings.get("end")
    until = f" to {steps(end)}" if end is not None else " on"
    span = f"{steps(settings.get('begin', 0))}{until} {'epochs' if by_epoch else 'steps'}"
    return f"{name_of(settings)} {span}{f' {in_words(rest)}' if rest else ''}"
