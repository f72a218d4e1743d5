# Semantic FPN for 160k iterations, as EMOv2 and MobileMamba: in no table beside 40k.
_base_ = "./semantic_fpn_ade20k.py"
iterations = 160_000
train_cfg = dict(max_iters=iterations)
param_scheduler = [dict(_base_.param_scheduler[0], end=iterations)]
