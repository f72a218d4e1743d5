import numpy as np
import pytest

from fvnet_mm.data.kinds import KINDS
from fvnet_mm.data.scenes import SceneSettings, draw_scene

SCENES = [draw_scene(np.random.default_rng(seed), KINDS, SceneSettings((208, 192))) for seed in range(60)]


def test_image_has_the_asked_size_and_range():
    image = SCENES[0].image
    assert image.shape == (192, 208, 3)
    assert image.dtype == np.uint8


def test_masks_are_visible_parts_so_they_never_overlap():
    assert max(sum(item.mask.astype(int) for item in scene.objects).max() for scene in SCENES) == 1


def test_no_scene_is_empty_and_none_is_crowded():
    counts = {len(scene.objects) for scene in SCENES}
    assert counts == {2, 3, 4, 5}


def test_every_kind_is_drawn():
    assert {item.kind for scene in SCENES for item in scene.objects} == set(range(len(KINDS)))


def test_sizes_spread_over_cocos_classes():
    areas = np.array([item.mask.sum() for scene in SCENES for item in scene.objects])
    small, large = (areas < 32**2).mean(), (areas > 96**2).mean()
    assert 0.1 < small < 0.35
    assert large > 0.05


def test_objects_hide_parts_of_others():
    """Without occlusion every object inside the image would have the area that its size class allows."""
    boxes_overlap = 0
    for scene in SCENES:
        boxes = [np.argwhere(item.mask) for item in scene.objects]
        for number, one in enumerate(boxes):
            for other in boxes[number + 1 :]:
                low, high = np.maximum(one.min(0), other.min(0)), np.minimum(one.max(0), other.max(0))
                boxes_overlap += bool((low < high).all())
    assert boxes_overlap > len(SCENES) / 4


def test_objects_look_different_from_their_ground():
    """The mean colour inside a mask is not that of the ring around it."""
    contrasts = []
    for scene in SCENES:
        hidden = np.any([item.mask for item in scene.objects], 0)
        ground = scene.image[~hidden].mean(0)
        contrasts += [np.abs(scene.image[item.mask].mean(0) - ground).max() for item in scene.objects]
    assert np.median(contrasts) > 40


def test_large_objects_are_left_out_of_small_images():
    settings = SceneSettings((64, 64))
    scenes = [draw_scene(np.random.default_rng(seed), KINDS, settings) for seed in range(20)]
    assert max(item.mask.sum() for scene in scenes for item in scene.objects) <= (64 * settings.max_side) ** 2 * 1.1


def test_image_that_no_object_fits_into_is_refused():
    with pytest.raises(ValueError, match="no object of the size classes fits"):
        draw_scene(np.random.default_rng(0), KINDS, SceneSettings((20, 20)))
