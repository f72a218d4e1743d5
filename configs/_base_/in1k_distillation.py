# Hard distillation as DeiT (arXiv:2012.12877, eq. 3) from its own teacher, a RegNetY-16GF: merged into the model of a
# plain training.
distillation = dict(
    type="DistilledImageClassifier",
    head=dict(type="DistilledLinearClsHead"),
    teacher=dict(
        model_name="regnety_160.deit_in1k",
        checkpoint="https://huggingface.co/timm/regnety_160.deit_in1k/resolve/main/model.safetensors",
    ),
)
