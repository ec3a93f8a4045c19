"""From samples to a batch."""

import numpy as np
import torch

from plrc_plugin.registry import FUNCTIONS
from plrc_plugin.views.device_augmentation import stack


@FUNCTIONS.register_module()
def collate_views(samples: list[dict]) -> dict:
    """Stacks samples of B images.

    Returns:
        dict: ``query`` and ``key``, each a dict with ``pixels`` (B, H, W, 3) uint8 RGB, ``affine``
        (B, 2, 3) float32, ``size`` (B, 2) float32, the images' width and height, and, where the
        pipeline draws points, ``regions`` (B, M) int64, ``points`` (B, M, 2) float32 and, where it
        keeps them, ``region_map`` (B, R, R) int64, and where the device augments, ``augmentation``,
        a :class:`~plrc_plugin.views.DeviceAugmentation`; ``paths``, the B files; ``skipped``,
        (path, reason) of the files that could not be read and were replaced; ``regions_missing``,
        those of the B files that the region source knows nothing of.
    """
    batch = {}
    for v, name in enumerate(('query', 'key')):
        views = [sample['views'][v] for sample in samples]
        batch[name] = dict(
            pixels=torch.from_numpy(np.stack([view.pixels for view in views])),
            affine=torch.from_numpy(np.stack([view.affine for view in views]).astype(np.float32)),
            size=torch.tensor([sample['size'] for sample in samples], dtype=torch.float32),
        )
        if views[0].augmentation is not None:
            batch[name]['augmentation'] = stack([view.augmentation for view in views])
        if 'region_points' in samples[0]:
            drawn = [sample['region_points'][v] for sample in samples]
            batch[name]['regions'] = torch.stack([d.regions for d in drawn])
            batch[name]['points'] = torch.stack([d.points for d in drawn])
            if drawn[0].region_map is not None:
                batch[name]['region_map'] = torch.stack([d.region_map for d in drawn])
    batch['paths'] = [sample['img_path'] for sample in samples]
    batch['regions_missing'] = [
        sample['img_path'] for sample in samples if sample.get('regions_missing')
    ]
    batch['skipped'] = [skip for sample in samples for skip in sample['skipped']]
    return batch
