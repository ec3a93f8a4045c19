"""Positions between views, and features at points."""

import pytest
import torch
from torch.nn import functional as F

from plrc_plugin.models.reading import read_points
from plrc_plugin.views.geometry import (
    cell_centres,
    crop_affine,
    image_to_view,
    inside,
    view_to_image,
    view_to_view,
)


@pytest.mark.parametrize(
    'height, width, resolution',
    [(7, 7, 56), (7, 7, 14), (7, 7, 224), (4, 6, 20), (1, 1, 5), (14, 14, 7)],
)
def test_reading_equals_upsampling_and_picking(height, width, resolution):
    feature_map = torch.randn(2, 5, height, width, dtype=torch.double, requires_grad=True)
    cells = torch.randint(0, resolution * resolution, (2, 40))
    cells[0, :4] = torch.tensor([0, resolution - 1, -resolution, -1]) % resolution**2  # corners
    points = cell_centres(resolution)[cells]
    up = F.interpolate(feature_map, (resolution, resolution), mode='bilinear', align_corners=False)
    expected = up.flatten(2).gather(2, cells.unsqueeze(1).expand(-1, 5, -1)).transpose(1, 2)
    got = read_points(feature_map, points)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-9)
    weight = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad((got * weight).sum(), feature_map)[0],
        torch.autograd.grad((expected * weight).sum(), feature_map)[0],
        rtol=1e-6,
        atol=1e-9,
    )
    single = read_points(feature_map.float(), points.float())
    torch.testing.assert_close(single, expected.float(), rtol=1e-5, atol=1e-5)


def test_reading_equals_grid_sample_anywhere():
    feature_map = torch.randn(3, 4, 7, 5)
    points = torch.rand(3, 100, 2) * 1.4 - 0.2  # also outside, where the edge is read
    expected = F.grid_sample(
        feature_map, points.unsqueeze(2) * 2 - 1, padding_mode='border', align_corners=False
    )[..., 0].transpose(1, 2)
    torch.testing.assert_close(read_points(feature_map, points), expected)


def test_half_maps_are_read_in_single_precision():
    feature_map = torch.randn(1, 4, 7, 7)
    points = torch.rand(1, 9, 2)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        got = read_points(feature_map.bfloat16(), points)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, read_points(feature_map.bfloat16().float(), points))


def affines():
    return torch.stack(
        [
            torch.from_numpy(crop_affine(0.1, 0.2, 0.5, 0.6)),
            torch.from_numpy(crop_affine(0.3, 0.0, 0.7, 0.9, flip=True)),
        ]
    )


def test_flipped_crop_maps_left_edge_to_right_edge():
    affine = torch.from_numpy(crop_affine(0.2, 0.1, 0.5, 0.4, flip=True))
    corners = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.double)
    torch.testing.assert_close(
        view_to_image(corners, affine), torch.tensor([[0.7, 0.1], [0.2, 0.5]], dtype=torch.double)
    )


def test_there_and_back():
    points = torch.rand(2, 30, 2, dtype=torch.double)
    a, b = affines(), affines().flip(0)
    torch.testing.assert_close(image_to_view(view_to_image(points, a), a), points)
    torch.testing.assert_close(view_to_view(view_to_view(points, a, b), b, a), points)
    torch.testing.assert_close(
        view_to_image(view_to_view(points, a, b), b), view_to_image(points, a)
    )


def test_same_content_is_read_in_both_views():
    """A linear picture: features read at the same image position agree between views."""
    a, b = affines()
    maps = []
    for affine in (a, b):
        position = view_to_image(cell_centres(50), affine)
        maps.append(
            (position @ torch.tensor([[2.0, -1.0], [1.0, 3.0]], dtype=torch.double)).T.reshape(
                1, 2, 50, 50
            )
        )
    points = torch.rand(1, 200, 2, dtype=torch.double)
    other = view_to_view(points, a, b)
    seen = inside((other - 0.02) / 0.96) & inside((points - 0.02) / 0.96)  # off the clamped edge
    assert 20 < seen.sum() < 200
    torch.testing.assert_close(
        read_points(maps[0], points)[seen], read_points(maps[1], other)[seen]
    )


def test_inside_includes_the_border():
    points = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0001, 0.5], [0.5, -0.0001], [0.5, 0.5]])
    assert inside(points).tolist() == [True, True, False, False, True]


def test_positions_are_float32_under_autocast():
    points, affine = torch.rand(2, 5, 2), torch.rand(2, 2, 3) + torch.eye(2, 3)
    expected = view_to_view(points, affine, affine.flip(0))
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(view_to_view(points, affine, affine.flip(0)), expected)
