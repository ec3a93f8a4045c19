"""A view is a NamedTuple that mmengine, torch and own loops can carry."""

import torch
from mmengine.model import BaseDataPreprocessor

from plrc_plugin.models import ViewBatch


def test_fields_by_attribute_by_name_and_by_number():
    affine = torch.rand(2, 2, 3)
    view = ViewBatch(affine=affine)
    assert view.affine is affine and view['affine'] is affine
    assert view[ViewBatch._fields.index('affine')] is affine
    assert view.points is None and view['region_map'] is None


def test_a_mapping_of_its_fields_is_a_view():
    view = ViewBatch(affine=torch.rand(2, 2, 3))
    assert ViewBatch.of(view) is view
    assert ViewBatch.of(dict(affine=view.affine)) == view


def test_mmengine_casts_it():
    view = BaseDataPreprocessor().cast_data(ViewBatch(affine=torch.rand(2, 2, 3)))
    assert isinstance(view, ViewBatch) and view.image is None
