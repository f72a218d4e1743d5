"""What a config says of the protocol. Takes plain dicts, such as ``Config.to_dict()`` of mmengine or a parsed dump."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from fvnet_mm.records.schema import Task

Settings = Mapping[str, object]

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

_READING = ("type", "_scope_", "backend_args", "file_client_args", "meta_keys", "checkpoint")
"""Arguments that say how files are read or what is handed on, not what comes out."""

_OF_OTHERS = ("in_channels", "num_classes", "mean", "std")
"""Arguments of a model's parts that follow from the trunk or the data, which are recorded themselves."""

_ROUNDING = ("fused", "foreach")
"""Arguments of an optimizer that say how its update is computed, not which."""

_DEFAULT_DECAY = {"AdamW": 0.01}
"""Weight decay of torch's optimizers where a config states none; that of all others is 0."""

_PLAIN_SAMPLERS = ("DefaultSampler", "InfiniteSampler")
_PLAIN_BATCH_SAMPLERS = ("AspectRatioBatchSampler",)
_PLAIN_COLLATIONS = ("pseudo_collate", "default_collate", "hand_on")

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
        rate = rate * (per_device * world_size) / base if world_size else None
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
        schedule=", ".join([_schedule(cfg.get("param_scheduler"), accumulation), *_active_hooks(cfg)]),
        train_pipeline=pipeline_in_words(cfg["train_dataloader"]["dataset"]) + _sampling(cfg["train_dataloader"]),
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


def _sampling(loader: Settings) -> str:
    """How images are drawn and put together, where it is not each as often as any other, shuffled."""
    sampler, batches, collation = (loader.get(key) or {} for key in ("sampler", "batch_sampler", "collate_fn"))
    shuffled = sampler.get("shuffle", True) and sampler.get("round_up", True)
    words = [] if name_of(sampler) in ("", *_PLAIN_SAMPLERS) and shuffled else [in_words(sampler)]
    words += [in_words(batches)] if name_of(batches) not in ("", *_PLAIN_BATCH_SAMPLERS) else []
    if isinstance(collation, Mapping) and name_of(collation) not in ("", *_PLAIN_COLLATIONS):
        words.append(in_words(collation))
    words += ["drop_last"] if loader.get("drop_last") else []
    return "".join(f", {each}" for each in words)


def fields_of_test(cfg: Settings, loader: str) -> dict[str, object]:
    """The fields of :class:`Protocol` that concern the model and its test, but for the data.

    Args:
        cfg: A whole config.
        loader: Which of its loaders the test images come from: 'val_dataloader' or 'test_dataloader'.
    """
    model = cfg["model"]
    rest = {key: value for key, value in model.items() if key not in ("backbone", "test_cfg", "pretrained")}
    test_mode = in_words(model["test_cfg"]) if model.get("test_cfg") else "default"
    return dict(
        framework=framework_of(model),
        model=in_words(rest, _OF_OTHERS),
        test_pipeline=pipeline_in_words(cfg[loader]["dataset"]),
        test_mode=", ".join([test_mode, *_evaluation(cfg.get(loader.replace("dataloader", "evaluator")))]),
    )


def _evaluation(evaluators: Sequence[Settings] | Settings | None) -> list[str]:
    """Settings of evaluators that change figures, where a config states them."""
    evaluators = [evaluators] if isinstance(evaluators, Mapping) else evaluators or []
    stated = [{key: each[key] for key in ("type", *_OF_EVALUATION) if each.get(key) is not None} for each in evaluators]
    return [in_words(each) for each in stated if len(each) > 1]


def pipeline_in_words(dataset: Settings) -> str:
    """The transforms of a data set's config, from the innermost data set to its last wrapper."""
    if "datasets" in dataset:
        return " | ".join(map(pipeline_in_words, dataset["datasets"]))
    steps = [in_words(step) for step in dataset.get("pipeline") or ()]
    if "dataset" in dataset:
        inner = dataset["dataset"]
        wrapper = in_words({key: value for key, value in dataset.items() if key not in ("dataset", "pipeline")})
        return ", ".join([pipeline_in_words(inner), wrapper, *steps])
    if dataset.get("filter_cfg"):
        steps.insert(0, f"filter{in_words(dataset['filter_cfg'])}")
    if dataset.get("indices") is not None:
        steps.insert(0, f"indices={in_words(dataset['indices'])}")
    return ", ".join(steps)


def in_words(value: object, without: Collection[str] = ()) -> str:
    """A setting in canonical words: ``Resize(keep_ratio=True, scale=(1333, 800))``.

    Arguments stand in alphabetical order, lists as tuples, SyncBN as the BN that it equals on one device. Those that
    are None, that hold paths or URLs, or that say how files are read are left out.

    Args:
        value: A dict with or without a type, a list, or a plain value.
        without: Further arguments to leave out, at any depth.
    """
    if isinstance(value, Mapping):
        arguments = [
            f"{key}={in_words(value[key], without)}"
            for key in sorted(value, key=str)
            if key not in _READING and key not in without and value[key] is not None and not _is_place(value[key])
        ]
        name = name_of(value)
        return f"{name}({', '.join(arguments)})" if arguments or not name else name
    if isinstance(value, list | tuple):
        return f"({', '.join(in_words(item, without) for item in value)})"
    if isinstance(value, float):
        return f"{value:.10g}"
    return getattr(value, "__name__", str(value))


def name_of(settings: Settings) -> str:
    """The type that a dict names, without its registry or module; empty if it names none."""
    kind = settings.get("type", "")
    name = (kind if isinstance(kind, str) else kind.__name__).rpartition(".")[2]
    return "BN" if name in ("SyncBN", "ProcessSyncBN") else name


def _is_place(value: object) -> bool:
    return isinstance(value, Path) or (isinstance(value, str) and "/" in value)


def _precision(wrapper: Settings) -> str:
    if name_of(wrapper) != "AmpOptimWrapper":
        return "float32"
    return str(wrapper.get("dtype") or "float16")


def _schedule(schedulers: Sequence[Settings] | Settings | None, accumulation: int) -> str:
    """The learning rate's course; what is counted in forward passes becomes optimizer steps."""
    schedulers = [schedulers] if isinstance(schedulers, Mapping) else schedulers or []
    return ", ".join(_scheduler(settings, accumulation) for settings in schedulers) or "constant"


def _scheduler(settings: Settings, accumulation: int) -> str:
    by_epoch = settings.get("by_epoch", True)

    def steps(count: int) -> int | float:
        return count if by_epoch else count // accumulation if count % accumulation == 0 else count / accumulation

    rest = {key: value for key, value in settings.items() if key not in ("type", "by_epoch", "begin", "end", "verbose")}
    for key in ("T_max", "milestones"):
        if rest.get(key) is not None:
            rest[key] = [steps(item) for item in rest[key]] if key == "milestones" else steps(rest[key])
    end = settings.get("end")
    until = f" to {steps(end)}" if end is not None else " on"
    span = f"{steps(settings.get('begin', 0))}{until} {'epochs' if by_epoch else 'steps'}"
    return f"{name_of(settings)} {span}{f' {in_words(rest)}' if rest else ''}"
