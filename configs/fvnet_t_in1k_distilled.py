_base_ = ["./fvnet_t_in1k.py", "./_base_/in1k_distillation.py"]

model = _base_.distillation
