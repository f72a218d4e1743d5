"""The fields that make two results comparable, and their digest."""

import hashlib

from pydantic import computed_field, model_validator

from fvnet_mm.records.parts import Part


class Protocol(Part):
    """What a number was measured under. Two results may be ranked against each other if all of it is the same.

    The trunk, the seed, the number of devices and the machine are no part of it: that is what a table compares, or
    what should not matter. None means that it is not known, as of an imported run; a protocol with an unknown field
    has a fingerprint of its own.

    Attributes:
        framework: 'retinanet', 'mask_rcnn', 'semantic_fpn', 'upernet', 'classification', or a detector's class name.
        data: Fingerprint of the training and validation data.
        model: Everything of the model's config but trunk and test settings, in words: neck, heads, losses, targets; and
            how images are normalised where it is not by ImageNet's mean and standard deviation.
        optimizer: Its class, with its arguments other than rate and decay: 'AdamW', 'SGD(momentum=0.9)'.
        parameter_rules: Parameters with a rate or decay of their own, such as norms without decay, or 'none'.
        learning_rate: At the effective batch.
        weight_decay: Of parameters that are decayed.
        learning_rate_rule: 'fixed', or 'linear' where it was scaled with the batch.
        effective_batch: Images per optimizer step.
        length: Of the training, in ``length_unit``.
        length_unit: 'epoch' or 'step' (optimizer steps).
        schedule: The learning rate's course in words, such as 'LinearLR 0 to 500 steps (start_factor=0.001),
            MultiStepLR 0 to 12 epochs (gamma=0.1, milestones=(8, 11))', and hooks that may change the training.
        train_pipeline: Transforms of training images in words, sizes included, the data set where it is more than its
            files, how images are drawn where it is not each as often as any other, shuffled, and in detectors by
            aspect ratio, and batch norms where several devices have other ones than usual.
        test_pipeline: Transforms of test images in words, sizes included, and the data set where it is more.
        test_mode: The model's test settings in words: '(mode=whole)' or sliding windows of segmentors, thresholds
            and counts of detectors; 'default' where there are none. And settings of the evaluation that change figures,
            'fp16', and how many images are evaluated at once where they are padded to the largest.
        precision: 'float32', 'bfloat16' or 'float16'; in words where another wrapper of the optimizer decides it.
        gradient_clip: Norm at which gradients are clipped, 0 for none; in words where they are clipped otherwise.
        norm_eval: Whether batch norms of the trunk, beyond its frozen stages, kept their statistics.
        frozen_stages: Of the trunk; -1 for none. In words, which parts were frozen of a trunk that freezes some itself
            and says of no stages that they are.
        averaged: The moving average of the weights that was evaluated, in words, or False.
        pretraining: Of the trunk's initial weights: 'scratch', 'plain', 'distilled', or 'unstated' where nobody says;
            'fine-tuned' where more of the model than its trunk was loaded.
    """

    framework: str | None = None
    data: str | None = None
    model: str | None = None
    optimizer: str | None = None
    parameter_rules: str | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    learning_rate_rule: str | None = None
    effective_batch: int | None = None
    length: int | None = None
    length_unit: str | None = None
    schedule: str | None = None
    train_pipeline: str | None = None
    test_pipeline: str | None = None
    test_mode: str | None = None
    precision: str | None = None
    gradient_clip: float | str | None = None
    norm_eval: bool | None = None
    frozen_stages: int | str | None = None
    averaged: bool | str | None = None
    pretraining: str | None = None

    @computed_field
    @property
    def fingerprint(self) -> str:
        """The first 12 hex digits of the SHA-256 of the fields, in a fixed order and notation."""
        text = self.model_dump_json(exclude={"fingerprint"})
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @model_validator(mode="before")
    @classmethod
    def _check_fingerprint(cls, fields: object) -> object:
        """Drops the digest that a file states, once it has been found right."""
        if not isinstance(fields, dict) or "fingerprint" not in fields:
            return fields
        rest = {name: value for name, value in fields.items() if name != "fingerprint"}
        if cls.model_validate(rest).fingerprint != fields["fingerprint"]:
            raise ValueError(f"the fingerprint {fields['fingerprint']!r} is not that of the fields beside it")
        return rest

    @property
    def unknown(self) -> tuple[str, ...]:
        """Fields that nobody knows, in words."""
        return tuple(name.replace("_", " ") for name in type(self).model_fields if getattr(self, name) is None)

    def differences(self, other: "Protocol") -> dict[str, tuple[object, object]]:
        """The fields in which two protocols differ, with both values."""
        names = type(self).model_fields
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
