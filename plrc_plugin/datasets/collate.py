"""Makes a batch of samples."""

import os
from hashlib import blake2b

import numpy as np
import torch

from plrc_plugin.models.view_batch import ViewBatch
from plrc_plugin.registry import FUNCTIONS
from plrc_plugin.views.device_augmentation import stack


@FUNCTIONS.register_module()
def collate_views(samples: list[dict]) -> dict:
    """Stacks samples of B images.

    Returns:
        dict: ``query`` and ``key``, the two views as :class:`~plrc_plugin.models.ViewBatch`;
        ``paths``, the B files; ``skipped``, (path, reason) of the files that could not be read and
        were replaced; ``regions_missing``, those of the B files for which the region source has no
        regions; and ``epoch``, the latest epoch of the samples' keys, if they have one.
    """
    batch = dict(
        query=_stacked(samples, 0),
        key=_stacked(samples, 1),
        paths=[sample['img_path'] for sample in samples],
        regions_missing=[sample['img_path'] for sample in samples if sample.get('regions_missing')],
        skipped=[skip for sample in samples for skip in sample['skipped']],
    )
    epochs = [sample['sample_key'].epoch for sample in samples if 'sample_key' in sample]
    if epochs:
        batch['epoch'] = max(epochs)
    return batch


def _stacked(samples: list[dict], v: int) -> ViewBatch:
    """Stacks view v of every sample."""
    views = [sample['views'][v] for sample in samples]
    batch = ViewBatch(
        pixels=torch.from_numpy(np.stack([view.pixels for view in views])),
        affine=torch.from_numpy(np.stack([view.affine for view in views]).astype(np.float32)),
        size=torch.tensor([sample['size'] for sample in samples], dtype=torch.float32),
        image_ids=torch.tensor([_image_id(sample) for sample in samples]),
    )
    if views[0].augmentation is not None:
        batch = batch._replace(augmentation=stack([view.augmentation for view in views]))
    if 'region_points' in samples[0]:
        drawn = [sample['region_points'][v] for sample in samples]
        kept = drawn[0].region_map is not None
        batch = batch._replace(
            regions=torch.stack([d.regions for d in drawn]),
            points=torch.stack([d.points for d in drawn]),
            region_map=torch.stack([d.region_map for d in drawn]) if kept else None,
        )
    return batch


def _image_id(sample: dict) -> int:
    """A hash of 63 bits. It is the same for an image, or for a part of a large image, in every
    epoch, worker and data set."""
    name = os.fsencode(sample['img_path'])
    if 'part' in sample:
        name += b'\0%d' % sample['part']
    return int.from_bytes(blake2b(name, digest_size=8).digest(), 'big') >> 1
