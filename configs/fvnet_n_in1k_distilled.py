_base_ = ["./fvnet_n_in1k.py", "./_base_/in1k_distillation.py"]

model = _base_.distillation
