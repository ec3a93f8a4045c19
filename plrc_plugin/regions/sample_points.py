"""The pipeline step that gives each view its regions and points."""

from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor

from plrc_plugin.errors import SettingsError
from plrc_plugin.randomness import stream
from plrc_plugin.regions.grid import GridRegions, sample_grid_points
from plrc_plugin.regions.sampling import region_map_of_view, sample_region_points
from plrc_plugin.regions.source import MissingRegions, as_labels
from plrc_plugin.registry import REGIONS, TRANSFORMS


class RegionPoints(NamedTuple):
    """M = N * P points of a view: region ids (M,) int64 and positions (M, 2) float32 in [0, 1],
    and, if asked for, the region ids (R, R) int64 of all its cells."""

    regions: Tensor
    points: Tensor
    region_map: Optional[Tensor] = None


@TRANSFORMS.register_module()
class SampleRegionPoints:
    """Draws N regions per view and P points per region (Section 3.2).

    This runs in the loader. The result is a function of ``results['sample_key']``, as the views
    are, and the device has no work with it.

    Args:
        regions (dict): config of the region source. Defaults to a 4 x 4 grid.
        num_regions (int): N. Defaults to 16.
        points_per_region (int): P. Defaults to 16.
        resolution (int): R, cells along each side of a view. Defaults to 56.
        keep_region_map (bool): whether to hand on the maps too, for models that pool whole regions.
            Defaults to False.
        missing (str): what happens to an image for which the source has no regions. ``'grid'``
            gives it a 4 x 4 grid and counts it in the log; ``'error'`` stops. Defaults to 'error'.

    Adds ``results['region_points']``, a :class:`RegionPoints` for each of ``results['views']``, and
    ``results['regions_missing']``, whether the source had no regions.

    Raises:
        SettingsError: if a setting cannot work, and in the loader, if the regions of an image are
            missing or do not fit it.
    """

    def __init__(
        self,
        regions: dict = dict(type='GridRegions', n=4),
        num_regions: int = 16,
        points_per_region: int = 16,
        resolution: int = 56,
        keep_region_map: bool = False,
        missing: str = 'error',
    ):
        for name, value in dict(
            num_regions=num_regions, points_per_region=points_per_region, resolution=resolution
        ).items():
            if not isinstance(value, int) or value < 1:
                raise SettingsError(
                    f'SampleRegionPoints: {name} must be a positive integer, got {value!r}'
                )
        if missing not in ('error', 'grid'):
            raise SettingsError(
                f"SampleRegionPoints: missing must be 'error' or 'grid', got {missing!r}"
            )
        kind = regions.get('type')
        if isinstance(kind, str) and REGIONS.get(kind) is None:
            raise SettingsError(
                f'SampleRegionPoints: regions.type must be one of '
                f'{sorted(REGIONS.module_dict)}, got {kind!r}; if the source is your own, name '
                f'its module in custom_imports of the config'
            )
        self.regions = REGIONS.build(regions)
        self.missing = missing
        self.num_regions = num_regions
        self.points_per_region = points_per_region
        self.resolution = resolution
        self.keep_region_map = keep_region_map

    def __call__(self, results: dict) -> dict:
        affines = np.stack([view.affine for view in results['views']])
        generator = stream(results['sample_key'], 'points')
        size = self.resolution, self.num_regions, self.points_per_region
        drawn = None
        region_maps: Any = [None] * len(affines)
        if type(self.regions) is GridRegions and not self.keep_region_map:
            results['regions_missing'] = False
            drawn = sample_grid_points(self.regions.n, affines, *size, generator)
        if drawn is None:
            region_maps = region_map_of_view(self._labels(results), affines, self.resolution)
            drawn = sample_region_points(region_maps.numpy(), *size[1:], generator)
        regions, points = drawn
        regions = regions.repeat(self.points_per_region, axis=1)
        results['region_points'] = [
            RegionPoints(
                torch.from_numpy(ids),
                torch.from_numpy(positions.reshape(-1, 2)),
                region_map if self.keep_region_map else None,
            )
            for ids, positions, region_map in zip(regions, points, region_maps)
        ]
        return results

    def _asked(self, results: dict) -> np.ndarray:
        """What the source gives for the image, or for the part of it that counts as the image."""
        area = results.get('area')
        if area is None or isinstance(self.regions, GridRegions):
            return self.regions(results)
        (left, top, width, height), size = area, results['full_size']
        labels = np.asarray(self.regions(dict(results, size=size)))
        if labels.shape != size[::-1]:
            raise SettingsError(
                f'{type(self.regions).__name__}: only a part of {results["img_path"]} is read, and '
                f'its label map is {labels.shape[1]} x {labels.shape[0]}, the image {size[0]} x '
                f'{size[1]}: parts need a label for each pixel, or GridRegions'
            )
        return labels[top : top + height, left : left + width]

    def _labels(self, results: dict) -> Tensor:
        """The image's label map, or what ``missing`` puts in its place."""
        source = type(self.regions).__name__
        results['regions_missing'] = False
        try:
            labels = self._asked(results)
        except MissingRegions as error:
            if self.missing == 'error':
                raise SettingsError(
                    f"{source}: {error}; or set missing='grid' of "
                    'SampleRegionPoints to give such images a grid'
                ) from None
            results['regions_missing'] = True
            labels = GridRegions(4)(results)
        return as_labels(labels, f'{source}: {results.get("img_path")}')
