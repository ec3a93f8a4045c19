"""``python -m plrc_plugin inspect TARGET``: a look at the images before a run.

    python -m plrc_plugin inspect photos/
    python -m plrc_plugin inspect configs/plrc_in1k.py --out look
    mim run plrc_plugin inspect work_dirs/plrc_rasters

TARGET is a folder of images, or shards or an address of them, a config of pre-training, or the work
dir of a run. It tells how many images there are, of which sizes and depths, which cannot be read
and why, which are the same, and how fast the loader is here. DIR/inspect.png and DIR/inspect.html
show what the network will see. Nothing is trained.
"""

import argparse
import copy
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

import plrc_plugin  # noqa: F401  registers everything, even if the config imports nothing
from plrc_plugin.auto import AUTO, places
from plrc_plugin.config_files import parse_options, read_config
from plrc_plugin.datasets.keys import KeyedDataset, takes_keys
from plrc_plugin.datasets.speed import images_per_second
from plrc_plugin.datasets.unread_images import UnreadImages
from plrc_plugin.errors import SettingsError, check_positive_integers
from plrc_plugin.images.survey import Description, Survey, describe, duplicates, survey
from plrc_plugin.randomness import SampleKey
from plrc_plugin.recipe.facts import gather
from plrc_plugin.recipe.rules import points_per_region, resolution, view_size
from plrc_plugin.recipe.windows import reading_step, resolve_windows
from plrc_plugin.registry import DATASETS
from plrc_plugin.terminal import one_line_errors
from plrc_plugin.views.two_views import TwoViews
from plrc_plugin.visualization.contact_sheet import SIDE, draw_sample, draw_sheet
from plrc_plugin.visualization.pages import jpeg_address, write_page

_DECODED = 2000  # images that are decoded; of more images, a sample
_FIRST_LOOK = 64  # images whose headers decide the pipeline of a folder


def main(arguments: Sequence[str]) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog='python -m plrc_plugin inspect',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('target', help='images (folder, shards, address), config, or work dir')
    parser.add_argument('--out', default='.', help='folder of inspect.png and inspect.html (.)')
    parser.add_argument('--views', type=int, default=8, help='images whose views are shown (8)')
    parser.add_argument(
        '--all', action='store_true', help=f'decode every image, not only {_DECODED:,} of more'
    )
    parser.add_argument(
        '--workers', type=int, nargs='+', help='loader workers to time (0, 1, and as many as cores)'
    )
    parser.add_argument(
        '--seconds', type=float, default=3, help='for which each number of workers is timed (3)'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', metavar='KEY=VALUE', help='settings of the config to replace'
    )
    args = parser.parse_args(arguments)
    with one_line_errors(lambda: ''):
        check_positive_integers('inspect', views=args.views)
        os.makedirs(args.out, exist_ok=True)
        with DefaultScope.overwrite_default_scope('plrc_plugin'):
            _inspect(args)
    return 0


def _inspect(args: argparse.Namespace) -> None:
    cfg = _config(args.target, parse_options(args.cfg_options))
    samples = _records(cfg.train_dataloader.dataset)
    images = list({record['img_path']: record for record in samples}.values())
    every = 1 if args.all else -(-len(images) // _DECODED)
    found = survey(_described(images[::every], decode=True))
    facts = _tell(found, len(images))
    if len(samples) > len(images):
        facts.insert(1, ('samples', f'{len(samples):,} an epoch, parts or repeats of these'))
    for name, value in facts:
        _say(name, value)
    same = duplicates(images[::every] if 'stored' in images[0] else images)
    copies = sum(len(group) - 1 for group in same)
    first = f', byte by byte, such as {same[0][1]} = {same[0][0]}' if same else ''
    facts.append(('copies', f'{copies or "none"}{first}'))
    _say(*facts[-1])
    if found.unreadable and not len(found.sizes):
        raise SettingsError(f'none of the images of {args.target} can be read: see above')
    facts += _pipeline(cfg)
    _rates(cfg, args, facts)
    _show(cfg, args, facts, found.problems, same)


def _say(name: str, value: str) -> None:
    print(f'{name:<12} {value}', flush=True)


def _config(target: str, options: dict) -> Config:
    """Returns the config of the target. For a folder of images this is one that fits most of
    them."""
    path = Path(target)
    if path.suffix == '.py' or (path.is_dir() and any(path.glob('*_resolved.py'))):
        cfg = read_config(path, options)
        if not (cfg.get('train_dataloader') or {}).get('dataset'):
            raise SettingsError(f'{target} has no train_dataloader.dataset: nothing to look at')
        return cfg
    step: dict = dict(type='plrc_plugin.TwoViews', size=AUTO)
    dataset: dict = dict(
        type='plrc_plugin.ImageFolder',
        data_root=target,
        pipeline=[
            step,
            dict(type='plrc_plugin.SampleRegionPoints', points_per_region=AUTO, resolution=AUTO),
        ],
    )
    records = _records(dataset)
    looked = survey(_described(records[:: -(-len(records) // _FIRST_LOOK)]))
    channels = looked.channels.most_common(1)
    if channels and (channels[0][0] not in (1, 3) or looked.dtypes.most_common(1)[0][0] != 'uint8'):
        step.update(channels=channels[0][0], window='percentiles')
    cfg = Config(dict(train_dataloader=dict(dataset=dataset), work_dir=''))
    cfg.merge_from_dict(options)
    return cfg


def _records(dataset: Any) -> list[dict]:
    """Returns the records of a data set, in its order."""
    images = UnreadImages(dataset)
    records = [images[i] for i in range(len(images))]
    if any('img_path' not in record for record in records[:1]):
        raise SettingsError('the data set gives no img_path: inspect looks at images of files')
    return records


def _keyed(dataset: Any) -> Any:
    built = DATASETS.build(dataset)
    return built if takes_keys(built) else KeyedDataset(built)


def _described(records: Sequence[dict], decode: bool = False) -> list[Description]:
    # Threads help, because the libraries decode without Python's lock.
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(lambda record: describe(record, decode), records))


def _tell(found: Survey, images: int) -> list[tuple[str, str]]:
    looked = found.unreadable + len(found.sizes)
    of_some = f' (of {looked:,} decoded; --all decodes every one)' if looked < images else ''
    facts = [
        ('images', f'{images:,}'),
        ('sizes', f'{found.size_text()}{of_some}'),
        ('kinds', found.kind_text() or 'none can be read'),
    ]
    reasons = [
        f'{reason} ({len(paths)}, such as {paths[0]})'
        for reason, paths in list(found.problems.items())[:3]
    ]
    broken = f'{found.unreadable} of {looked}: {"; ".join(reasons)}' if reasons else 'none'
    facts.append(('unreadable', broken))
    return facts


def _pipeline(cfg: Config) -> list[tuple[str, str]]:
    """Puts values in place of settings that the run would still compute, and prints them."""
    asked = [p for p in places(cfg) if 'pipeline' in p.path and p.value == AUTO]
    if asked:
        facts = gather(cfg)
        size = view_size(facts).value
        if any(place.key != 'size' for place in asked):
            step = next(p.value for p in places(cfg) if p.name == 'TwoViews.size')
            size = size if step == AUTO else step
        values = dict(
            size=size,
            resolution=resolution(size).value,
            points_per_region=points_per_region(size).value,
        )
        for place in asked:
            place.holder[place.key] = values[place.key]
    told = []
    step = reading_step(cfg)
    if step is not None:
        record: Any = resolve_windows(cfg)
        told.append(('channels', f'{record["channels"]}: set channels of TwoViews and '
                     'model.backbone.in_channels (docs/depth.md)'))  # fmt: skip
        pairs = '; '.join(f'{low:.6g} to {high:.6g}' for low, high in record['window'])
        told.append(('window', f'{pairs} ({record["how"]})'))
    for name, value in told:
        _say(name, value)
    return told


def _rates(cfg: Config, args: argparse.Namespace, facts: list[tuple[str, str]]) -> None:
    dataset = _keyed(cfg.train_dataloader.dataset)
    cores = os.cpu_count() or 1
    for workers in args.workers or sorted({0, 1, cores}):
        rate = images_per_second(dataset, workers, seconds=args.seconds)
        name = '1 worker' if workers == 1 else f'{workers} workers'
        facts.append((name, f'{rate:.1f} images per second, two views of each'))
        _say(*facts[-1])


def _show(
    cfg: Config,
    args: argparse.Namespace,
    facts: list[tuple[str, str]],
    problems: dict[str, list[str]],
    same: list[list[str]],
) -> None:
    """Writes the contact sheet as a picture and as a page."""
    dataset = copy.deepcopy(cfg.train_dataloader.dataset)
    _keep_maps(dataset)
    built, sheets = _keyed(dataset), []
    count = min(args.views, len(built))
    views = next((s for s in _built_steps(built) if isinstance(s, TwoViews)), None)
    if views is None:
        raise SettingsError(f'{args.target}: its pipeline has no TwoViews, so there is no view')
    for n in range(count):
        sample = built[SampleKey(0, 0, n * len(built) // count)]
        sheets.append(draw_sample(sample, views.open))
    picture = Path(args.out, 'inspect.png')
    try:
        Image.fromarray(draw_sheet(sheets)).save(picture)
    except OSError as error:
        raise SettingsError(f'{picture} cannot be written: {error.strerror}') from error
    page = Path(args.out, 'inspect.html')
    write_page(
        page,
        'inspect.html',
        target=args.target,
        facts=facts,
        problems=problems,
        duplicates=same,
        bands=views.channels,
        sheets=[
            dict(
                name=sheet.name,
                image=jpeg_address(sheet.image, SIDE),
                views=[jpeg_address(view, SIDE) for view in sheet.views],
            )
            for sheet in sheets
        ],
    )
    _say('pictures', f'{picture} and {page}')


def _keep_maps(value: Any) -> None:
    """Makes every SampleRegionPoints in a config keep the maps of regions."""
    if isinstance(value, (list, tuple)):
        for entry in value:
            _keep_maps(entry)
    elif isinstance(value, dict):
        if str(value.get('type', '')).endswith('SampleRegionPoints'):
            value['keep_region_map'] = True
        for entry in value.values():
            _keep_maps(entry)


def _built_steps(dataset: Any) -> list:
    """Returns the pipeline steps of a data set, or of the first one within it."""
    while dataset is not None:
        pipeline = getattr(dataset, 'pipeline', None)
        if pipeline is not None and getattr(pipeline, 'transforms', None):
            return list(pipeline.transforms)
        inner = getattr(dataset, 'dataset', None) or getattr(dataset, 'datasets', None)
        dataset = inner[0] if isinstance(inner, (list, tuple)) else inner
    return []
