from fvnet_mm.data.classes import ADE20K_CLASSES, COCO_CATEGORIES, COCO_CLASSES


def test_classes_are_those_of_mmdet():
    from mmdet.datasets import CocoDataset

    assert CocoDataset.METAINFO["classes"] == COCO_CLASSES


def test_ids_are_cocos_with_their_gaps():
    gaps = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    assert [category.id for category in COCO_CATEGORIES] == [i for i in range(1, 91) if i not in gaps]


def test_supercategories():
    assert len({category.supercategory for category in COCO_CATEGORIES}) == 12
    assert {c.name: c.supercategory for c in COCO_CATEGORIES}["toilet"] == "furniture"


def test_ade20k_classes_are_those_of_mmseg():
    from mmseg.datasets import ADE20KDataset

    assert ADE20KDataset.METAINFO["classes"] == ADE20K_CLASSES
