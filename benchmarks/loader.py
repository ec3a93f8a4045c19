"""Images per second and core of the loader beside lightly's, decode included, and where it goes."""

from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
from lightly.transforms import MoCoV2Transform
from PIL import Image
from report import arguments, bars, cost_of, interleaved, median, paired_ratio, photos, table, write

from plrc_plugin.datasets.image_folder import ImageFolder
from plrc_plugin.images.decoding import ImageFile, read_image
from plrc_plugin.models.views_preprocessor import ViewsPreprocessor
from plrc_plugin.randomness import SampleKey
from plrc_plugin.regions.sample_points import SampleRegionPoints
from plrc_plugin.views import augmentation
from plrc_plugin.views.two_views import TwoViews


def ours(paths, size, points=True, photometric='loader', normalise=None):
    """Two views with geometry, and, unless told otherwise, the ids and points of their regions."""
    steps = [TwoViews(size=size, photometric=photometric)] + [SampleRegionPoints()] * points

    def load():
        for i, path in enumerate(paths):
            results = dict(img_path=path, sample_key=SampleKey(0, 0, i))
            for step in steps:
                results = step(results)
            if normalise:
                [normalise(torch.from_numpy(view.pixels)[None]) for view in results['views']]

    return load


def lightlys(paths, size):
    """Two views as normalised tensors. Its defaults are the distribution of ours: jitter of .4, .4,
    .4, .1 with probability .8, grey .2, blur of 0.1 to 2 pixels .5, crops of 20 to 100%."""
    transform = MoCoV2Transform(input_size=size)

    def load():
        for path in paths:
            with Image.open(path) as image:
                transform(image.convert('RGB'))

    return load


def decoding(paths):
    """All pixels, and no view."""
    return lambda: [read_image(path) for path in paths]


@contextmanager
def timed(owner, name, seconds):
    """Adds up the CPU seconds of a function, called through its owner, while the context lasts."""
    function = getattr(owner, name)

    def wrapper(*args, **kwargs):
        result = []
        cost = cost_of(lambda: result.append(function(*args, **kwargs)))
        seconds[name] = seconds.get(name, 0) + cost.cpu
        return result[0]

    with mock.patch.object(owner, name, wrapper):
        yield


def breakdown(paths, size) -> str:
    """Share of each part in our loader's CPU seconds."""
    seconds = {}
    parts = [(ImageFile, 'decode'), (ImageFile, '__init__'), (SampleRegionPoints, '__call__')]
    parts += [
        (augmentation, name)
        for name in (
            'random_crop_box',
            'crop_and_resize',
            'color_jitter',
            'to_grey',
            'gaussian_blur',
        )
    ]
    with ExitStack() as stack:
        for owner, name in parts:
            stack.enter_context(timed(owner, name, seconds))
        total = cost_of(ours(paths, size)).cpu
    names = {'__init__': 'open, read the header', '__call__': 'regions and points'}
    rows = [
        [names.get(name, f'`{name}`'), 1000 * s / len(paths), 100 * s / total]
        for name, s in sorted(seconds.items(), key=lambda item: -item[1])
    ]
    rest = total - sum(seconds.values())
    return table(
        ['part', 'CPU, ms per image', 'share, %'],
        [
            *rows,
            [
                'the rest: random streams, flips, Python',
                1000 * rest / len(paths),
                100 * rest / total,
            ],
        ],
    )


def main() -> None:
    parser = arguments(__doc__, rounds=7)
    parser.add_argument('--images', type=int, default=100)
    parser.add_argument('--size', type=int, default=224)
    args = parser.parse_args()
    data = ImageFolder(
        photos(args.photos), pipeline=[lambda record: record['img_path']], test_mode=True
    )
    paths = [data[i] for i in range(min(args.images, len(data)))]
    cases = {
        'plrc_plugin, views, regions, points': ours(paths, args.size),
        'plrc_plugin, the same, normalised too': ours(
            paths, args.size, normalise=ViewsPreprocessor().normalise
        ),
        'plrc_plugin, views': ours(paths, args.size, points=False),
        'plrc_plugin, photometric on the device': ours(paths, args.size, photometric='device'),
        'lightly MoCoV2Transform, views': lightlys(paths, args.size),
        'decoding alone': decoding(paths),
    }
    costs = interleaved(cases, args.rounds)
    reference = costs['lightly MoCoV2Transform, views']
    rows = []
    for name in cases:
        ratio = paired_ratio(reference, costs[name])
        rows.append([name, len(paths) / median(costs[name]).cpu, ratio.cpu, ratio.wall])
    width, height = Image.open(paths[0]).size
    write(
        'loader',
        'Loader: images per second and core',
        f'{len(paths)} files, the first of {width} × {height}, two views of {args.size}, '
        f'decode included, one process; medians of {args.rounds} rounds in turns. Target: 3 '
        'times lightly. Pixels leave ours as uint8, to be normalised on the device; lightly '
        "normalises in the loader. 'On the device' is the loader's part alone: crop, resize, "
        'flip, regions and points, and the drawing of what the device is to do.',
        table(
            ['loader', 'images per CPU second', 'times lightly (CPU)', 'times lightly (wall)'], rows
        ),
        bars(
            'loader',
            {name: ratio for name, _, ratio, _ in rows},
            "images per CPU second ÷ lightly's",
            target=3,
        ),
        'Where our time goes:\n\n' + breakdown(paths, args.size),
    )


if __name__ == '__main__':
    main()
