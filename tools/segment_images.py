"""Segment all images of a config ahead of its training, into its cache_dir.

    python tools/segment_images.py configs/my_config.py --workers 16

The config's ``SampleRegionPoints`` must have ``regions=dict(type='SegmenterRegions',
cache_dir=...)``. Images that are there already cost only reading them, so that an interrupted
call is repeated, and several machines may share a folder.
"""

import argparse
import os
import time

import numpy as np
from mmengine.config import Config
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm


def parse_args():
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description='Segment all images ahead of training',
    )
    parser.add_argument('config', help='config of the pre-training run, or its work dir')
    parser.add_argument(
        '--workers', type=int, default=os.cpu_count(), help='processes (default: %(default)s)'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        metavar='KEY=VALUE',
        help='settings that replace those of the config, as for training',
    )
    return parser.parse_args()


class CountedRegions(Dataset):
    """The number of regions of each image, or what is wrong with the image (str)."""

    def __init__(self, images, source):
        self.images, self.source = images, source

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index: int):
        from plrc_plugin.images.decoding import DecodingError

        try:
            return len(np.unique(self.source(self.images.image_record(index))))
        except DecodingError as error:
            return str(error)


def segment_all(cfg: Config, workers: int) -> None:
    """Fills the cache, and says how many regions an image has."""
    from plrc_plugin.errors import SettingsError, check_positive_integers
    from plrc_plugin.regions.sample_points import SampleRegionPoints
    from plrc_plugin.regions.segmenter import SegmenterRegions
    from plrc_plugin.registry import DATASETS

    check_positive_integers('segment_images', workers=workers)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    source = next(
        (t.regions for t in dataset.pipeline.transforms if isinstance(t, SampleRegionPoints)), None
    )
    if not isinstance(source, SegmenterRegions) or source.cache_dir is None:
        raise SettingsError(
            'the config has no segmenter that keeps its segments: set regions='
            "dict(type='SegmenterRegions', cache_dir=<folder>) of "
            'SampleRegionPoints in train_dataloader.dataset.pipeline'
        )
    start, counts = time.time(), []
    loader = DataLoader(CountedRegions(dataset, source), batch_size=None, num_workers=workers)
    for count in tqdm(loader, 'images', len(dataset), delay=3, mininterval=1, leave=False):
        if isinstance(count, str):
            print(f'skipped: {count}')
        else:
            counts.append(count)
    low, median, high = np.percentile(counts or [0], (5, 50, 95))
    print(
        f'{len(counts)} of {len(dataset)} images segmented, {median:.0f} regions each (90% have '
        f'{low:.0f} to {high:.0f}), in {time.time() - start:.0f} s: {source.cache_dir}'
    )


def main():
    """A setting that cannot work ends in one line, exit code 2."""
    args = parse_args()
    import plrc_plugin  # noqa: F401
    from plrc_plugin.config_files import parse_options, read_config
    from plrc_plugin.terminal import one_line_errors

    with one_line_errors():
        segment_all(read_config(args.config, parse_options(args.cfg_options)), args.workers)


if __name__ == '__main__':
    main()
