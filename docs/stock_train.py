"""What mmdet's own tools/train.py does with a config, without its flags: the yardstick of docs/speedups.py.

python docs/stock_train.py CONFIG
"""

import sys

import fvnet_mm  # noqa: F401  isort: skip  (mmcv's operators, for which mmdet looks when it is imported)
from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine.config import Config
from mmengine.runner import Runner

if __name__ == "__main__":
    setup_cache_size_limit_of_dynamo()
    Runner.from_cfg(Config.fromfile(sys.argv[1])).train()
