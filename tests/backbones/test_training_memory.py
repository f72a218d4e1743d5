"""FVNet takes no more memory in training than what it is held against, within a tenth."""

import pytest
import torch

from fvnet_mm.bench.speed.subjects import build_subject, find_subjects
from fvnet_mm.bench.training_memory import saved_bytes


@pytest.mark.parametrize(("trunk", "rival"), [("fvnet_s", "repvit_m1_1"), ("fvnet_t", "repvit_m0_9")])
def test_a_training_pass_keeps_at_most_a_tenth_more_than_the_rival(trunk: str, rival: str) -> None:
    """At equal batch; docs/benchmark.md has the figures."""
    images = torch.rand(2, 3, 224, 224)
    own, its = (saved_bytes(build_subject(subject).train(), images) for subject in find_subjects([trunk, rival]))
    assert 0 < own <= 1.1 * its
