"""Regions and points: what is drawn, how often, and where."""

import numpy as np
import pytest
import torch

from plrc_plugin.errors import SettingsError
from plrc_plugin.randomness import SampleKey
from plrc_plugin.regions.grid import GridRegions, sample_grid_points
from plrc_plugin.regions.sample_points import SampleRegionPoints
from plrc_plugin.regions.sampling import region_map_of_view, sample_region_points
from plrc_plugin.regions.source import VOID
from plrc_plugin.views.geometry import crop_affine
from plrc_plugin.views.two_views import View


def draw(kind, region_map, num_regions, points_per_region, seed=0):
    """Of a tensor, or of an array with numpy's generator; tensors either way."""
    if kind == 'tensor':
        return sample_region_points(
            region_map, num_regions, points_per_region, torch.Generator().manual_seed(seed)
        )
    drawn = sample_region_points(
        region_map.numpy(), num_regions, points_per_region, np.random.default_rng(seed)
    )
    assert all(isinstance(x, np.ndarray) for x in drawn)
    return tuple(map(torch.from_numpy, drawn))


both_kinds = pytest.mark.parametrize('kind', ['tensor', 'array'])


def cells_of(points, resolution):
    return (points * resolution - 0.5).round().long()


@both_kinds
@pytest.mark.parametrize('seed', range(5))
def test_points_lie_in_their_region_and_regions_are_valid(kind, seed):
    maps = torch.randint(-2, 4, (4, 9, 9), generator=torch.Generator().manual_seed(seed))
    maps[1] = -2
    maps[2, 4, 4] = 1 << 40  # a region of a single cell
    maps[3] = 5
    regions, points = draw(kind, maps, 50, 7, seed)
    assert regions.shape == (4, 50) and points.shape == (4, 50, 7, 2)
    assert regions.dtype == torch.int64 and points.dtype == torch.float32
    assert (regions[1] == VOID).all() and not points.isnan().any()
    for b in (0, 2, 3):
        valid = set(maps[b][maps[b] >= 0].tolist())
        assert set(regions[b].tolist()) == valid  # 50 draws meet each of at most 5
        x, y = cells_of(points[b], 9).unbind(-1)
        assert torch.equal(maps[b][y, x], regions[b].unsqueeze(1).expand(50, 7))
        centres = (torch.stack([x, y], -1) + 0.5) / 9
        torch.testing.assert_close(points[b], centres.float())


@both_kinds
def test_regions_uniform_whatever_their_size_and_cells_uniform_within(kind):
    region_map = torch.zeros(1, 8, 8, dtype=torch.long)
    region_map[0, :, 4:] = 1
    region_map[0, 0, 0] = 2  # 1 cell against 31 and 32
    region_map[0, 7, 7] = -1
    draws = 40_000
    regions, points = draw(kind, region_map, draws, 1)
    counts = regions[0].bincount(minlength=3) / draws
    assert (counts - 1 / 3).abs().max() < 0.015  # six standard deviations
    x, y = cells_of(points[0, :, 0][regions[0] == 1], 8).unbind(-1)
    per_cell = (y * 8 + x).bincount(minlength=64)
    per_cell = per_cell[per_cell > 0]
    assert len(per_cell) == 31
    expected = per_cell.sum() / 31
    chi2 = ((per_cell - expected) ** 2 / expected).sum()
    assert chi2 < 70  # 30 degrees of freedom: passed by chance with probability 1 - 4e-5


@both_kinds
def test_draws_of_a_region_are_independent(kind):
    """Pairs of cells, and of a region and the one drawn after it, are as frequent as any other."""
    region_map = torch.arange(4).view(1, 2, 2).repeat(1, 2, 2)  # four regions of four cells
    regions, points = draw(kind, region_map, 20_000, 2)
    x, y = cells_of(points[0], 4).unbind(-1)
    cell = y * 4 + x
    for a, b, kinds in [(regions[0, 1:], regions[0, :-1], 16), (cell[:, 0], cell[:, 1], 64)]:
        counts = (16 * a + b).bincount()
        counts = counts[counts > 0]
        expected = counts.sum() / kinds
        assert len(counts) == kinds
        assert ((counts - expected) ** 2 / expected).sum() < kinds + 6 * (2 * kinds) ** 0.5


@both_kinds
def test_draws_follow_the_generator(kind):
    region_map = torch.arange(16).view(1, 4, 4)
    drawn = [draw(kind, region_map, 5, 3, seed) for seed in (1, 1, 2)]
    assert torch.equal(drawn[0][1], drawn[1][1]) and not torch.equal(drawn[0][1], drawn[2][1])


class Numbers:
    """In place of a generator, and of torch.rand: the given number, or those of a numpy stream."""

    def __init__(self, number=None):
        self.number, self.rng = number, np.random.Generator(np.random.PCG64(0))

    def random(self, shape, dtype=np.float32):
        return (
            self.rng.random(shape, dtype)
            if self.number is None
            else np.full(shape, self.number, dtype)
        )

    def rand(self, shape, **_):
        return torch.from_numpy(self.random(shape))


def draw_with(numbers, kind, region_map, num_regions, points_per_region, monkeypatch):
    monkeypatch.setattr(torch, 'rand', numbers.rand)
    monkeypatch.setattr(np.random, 'default_rng', lambda seed=None: numbers)
    return draw(kind, region_map, num_regions, points_per_region)


@both_kinds
@pytest.mark.parametrize('number', [0, 1 - 2**-24])
def test_smallest_and_largest_random_number_stay_inside(kind, number, monkeypatch):
    """Whatever the other images of the batch are."""
    maps = torch.full((3, 56, 56), VOID)
    inside = maps[1].view(-1)[5:-7]
    inside[:] = torch.arange(len(inside)) % 64  # of 64 regions, as many cells each but a few
    regions, points = draw_with(Numbers(number), kind, maps, 2, 2, monkeypatch)
    assert (regions[[0, 2]] == VOID).all()
    region = 63 if number else 0
    assert (regions[1] == region).all()
    x, y = cells_of(points[1], 56).unbind(-1)
    cells = 5 + (inside == region).nonzero()[:, 0]
    assert (y * 56 + x == cells[-1 if number else 0]).all()


def test_arrays_and_tensors_agree_given_the_same_numbers(monkeypatch):
    """Of labels within 16 bits and beyond, which are sorted in other ways."""
    maps = torch.randint(-3, 9, (6, 7, 7))
    for region_map in (maps, maps * 5000, maps.int()):
        drawn = [
            draw_with(Numbers(), kind, region_map, 9, 5, monkeypatch)
            for kind in ('tensor', 'array')
        ]
        for a, b in zip(*drawn):
            assert torch.equal(a, b)


@pytest.mark.parametrize(
    'region_map, counts, message',
    [
        (torch.zeros(1, 4, 4, dtype=torch.long), (0, 1), 'at least 1'),
        (torch.zeros(1, 4, 4, dtype=torch.long), (1, -1), 'at least 1'),
        (torch.zeros(4, 4, dtype=torch.long), (1, 1), r'\(B, R, R\)'),
        (torch.zeros(1, 4, 5, dtype=torch.long), (1, 1), r'\(B, R, R\)'),
        (torch.zeros(1, 4, 4), (1, 1), 'integers'),
    ],
)
def test_bad_input(region_map, counts, message):
    with pytest.raises(ValueError, match=message):
        sample_region_points(region_map, *counts)
    with pytest.raises(ValueError, match=message):
        sample_region_points(region_map.numpy(), *counts)


@pytest.mark.parametrize('flip', [False, True])
@pytest.mark.parametrize(
    'left, top, side', [(0, 0, 64), (7, 19, 32), (32, 5, 16), (3, 3, 8), (11, 4, 40)]
)
@pytest.mark.parametrize('resolution', [8, 16])
def test_view_ids_equal_cropping_and_flipping_the_label_image(flip, left, top, side, resolution):
    labels = torch.randint(-1, 30, (80, 96))
    affine = torch.from_numpy(crop_affine(left / 96, top / 80, side / 96, side / 80, flip))
    got = region_map_of_view(labels, affine, resolution)
    crop = labels[top : top + side, left : left + side]
    if flip:
        crop = crop.flip(1)
    cells = ((torch.arange(resolution) + 0.5) * side / resolution).floor().long()
    assert torch.equal(got, crop[cells][:, cells])
    if side == resolution:
        assert torch.equal(got, crop)


@pytest.mark.parametrize(
    'linear',
    [
        [[0.5, 0.2], [-0.3, 0.6]],
        [[-0.4, 0.1], [0, 0.7]],
        [[0, 0.8], [-0.7, 0]],
        [[1.3, 0], [0, 0.4]],
    ],
)
def test_ids_of_any_affine_map_are_those_under_the_cells_centres(linear):
    """Turned, sheared, on their side, and wider than the image; two views in one call."""
    labels = torch.randint(-1, 1000, (37, 53))
    affines = torch.tensor(
        [
            [[*row, shift] for row, shift in zip(linear, shifts)]
            for shifts in [(0.3, 0.25), (0.713, 0.411)]
        ],
        dtype=torch.float64,
    )
    got = region_map_of_view(labels, affines, 9)
    for region_map, affine in zip(got, affines):
        for row in range(9):
            for column in range(9):
                centre = torch.tensor([(column + 0.5) / 9, (row + 0.5) / 9, 1], dtype=torch.float64)
                x, y = (affine @ centre).tolist()
                inside = 0 <= x <= 1 and 0 <= y <= 1
                expected = labels[int(y * 37), int(x * 53)] if inside else VOID
                assert region_map[row, column] == expected


def test_grid_regions_over_the_original_image():
    label_map = torch.as_tensor(GridRegions(4)({}))
    whole = region_map_of_view(label_map, torch.from_numpy(crop_affine(0, 0, 1, 1)), 56)
    brute = torch.arange(56) // 14
    assert torch.equal(whole, brute.unsqueeze(1) * 4 + brute)
    quarter = region_map_of_view(label_map, torch.from_numpy(crop_affine(0.5, 0.5, 0.5, 0.5)), 14)
    assert sorted(quarter.unique().tolist()) == [10, 11, 14, 15]


@pytest.mark.parametrize('n, resolution', [(4, 56), (1, 7), (3, 8), (9, 5), (100, 14), (7, 7)])
def test_points_of_a_grid_are_those_of_its_map(n, resolution):
    """Region by region and point by point, for crops of any size and place, mirrored or not."""
    rng = np.random.default_rng(n)
    for seed in range(60):
        sides = rng.uniform(0.02, 1, (2, 2)) if seed else np.ones((2, 2))
        corners = rng.random((2, 2)) * (1 - sides)
        affines = np.stack(
            [crop_affine(*c, *s, flip) for c, s, flip in zip(corners, sides, rng.random(2) < 0.5)]
        )
        region_maps = region_map_of_view(GridRegions(n)({}), affines, resolution).numpy()
        expected = sample_region_points(region_maps, 9, 5, np.random.default_rng(seed))
        got = sample_grid_points(n, affines, resolution, 9, 5, np.random.default_rng(seed))
        for a, b in zip(got, expected):
            assert a.dtype == b.dtype and np.array_equal(a, b)


def test_a_grid_under_turned_or_wider_views_needs_its_map():
    for matrix in (
        [[0.5, 0.1, 0], [0, 0.5, 0]],
        [[2, 0, -0.5], [0, 1, 0]],
        [[1, 0, 0], [0, 1, 0.5]],
    ):
        affine = np.array([matrix])
        assert sample_grid_points(4, affine, 8, 2, 2, np.random.default_rng(0)) is None
        step = SampleRegionPoints(resolution=8)
        results = dict(views=[View(None, affine[0])], sample_key=SampleKey(0, 0, 0))
        assert step(results)['region_points'][0].points.shape == (256, 2)


def test_outside_the_image_is_void():
    affine = torch.tensor([[2.0, 0, -0.5], [0, 2.0, -0.5]])
    region_map = region_map_of_view(torch.zeros(1, 1, dtype=torch.long), affine, 8)
    assert (region_map[2:6, 2:6] == 0).all() and (region_map == 0).sum() == 16


def test_transform_is_a_function_of_the_key():
    transform = SampleRegionPoints(num_regions=4, points_per_region=3, resolution=14)
    views = [
        View(None, crop_affine(0.1, 0.2, 0.5, 0.6)),
        View(None, crop_affine(0.3, 0.2, 0.5, 0.6, True)),
    ]

    def draw(*key):
        return transform(dict(views=views, sample_key=SampleKey(*key)))['region_points']

    first, again = draw(0, 1, 2), draw(0, 1, 2)
    for a, b in zip(first, again):
        assert torch.equal(a.regions, b.regions) and torch.equal(a.points, b.points)
        assert a.regions.shape == (12,) and a.points.shape == (12, 2)
    for other in [(1, 1, 2), (0, 2, 2), (0, 1, 3)]:
        assert not torch.equal(first[0].points, draw(*other)[0].points)
    assert not torch.equal(first[0].points, first[1].points)


@pytest.mark.parametrize('setting', ['num_regions', 'points_per_region', 'resolution'])
@pytest.mark.parametrize('value', [0, -3, 1.5, '4'])
def test_counts_must_be_positive_integers(setting, value):
    with pytest.raises(SettingsError, match=setting):
        SampleRegionPoints(**{setting: value})


@pytest.mark.parametrize('n', [0, -1, 2.0])
def test_grid_size_must_be_a_positive_integer(n):
    with pytest.raises(SettingsError, match='GridRegions: n'):
        GridRegions(n)


def test_labels_of_any_integer_type():
    for dtype in (torch.int16, torch.int32, torch.uint8):
        regions, _ = sample_region_points(torch.full((1, 4, 4), 7, dtype=dtype), 2, 2)
        assert (regions == 7).all()
    assert np.asarray(GridRegions(2)({})).shape == (2, 2)
