# Semantic FPN for 80k iterations, as MogaNet and TransXNet: in no table beside 40k.
_base_ = "./semantic_fpn_ade20k.py"
iterations = 80_000
train_cfg = dict(max_iters=iterations)
param_scheduler = [dict(_base_.param_scheduler[0], end=iterations)]
