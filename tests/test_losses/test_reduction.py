"""Losses are taken in full precision, whatever surrounds them."""

import torch

from plrc_plugin.losses import (
    PointAffinityDistillation,
    PointRegionContrast,
    image_contrast,
)


def test_losses_are_float32_under_autocast():
    """Half features give what their float32 copies give outside autocast."""
    half = torch.nn.functional.normalize(torch.randn(2, 8, 16), dim=2).bfloat16()
    other = torch.nn.functional.normalize(torch.randn(2, 8, 16), dim=2).bfloat16()
    regions = torch.arange(8).expand(2, -1) // 2
    valid = torch.ones(2, 8, dtype=torch.bool)

    def losses(a, b):
        return [
            PointRegionContrast()(a, b, regions, regions),
            PointRegionContrast()(a, b, regions, regions, inter_image=False),
            PointAffinityDistillation()(a, b, b, a, valid),
            image_contrast(a[0], b[0], b[1])[0],
        ]

    expected = losses(half.float(), other.float())
    with torch.autocast('cpu', torch.bfloat16):
        found = losses(half, other)
    assert all(torch.equal(x, y) and x.dtype == torch.float32 for x, y in zip(found, expected))
