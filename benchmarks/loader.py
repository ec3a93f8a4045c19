"""CPU time of the loader per photograph beside other libraries, decode included, and where it goes.

A library that is not installed is left out, by name. Those of the comparison come with
``pip install albumentations simplejpeg kornia``.
"""

import importlib.util
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Callable
from unittest import mock

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from PIL import Image
from report import ROOT, arguments, bars, cost_of, interleaved, median, photos, table, write
from step import flops
from torch.utils.data import DataLoader

from plrc_plugin.datasets.collate import collate_views
from plrc_plugin.datasets.image_folder import ImageFolder
from plrc_plugin.images.decoding import ImageFile, read_image
from plrc_plugin.randomness import SampleKey
from plrc_plugin.regions.sample_points import SampleRegionPoints
from plrc_plugin.registry import MODELS
from plrc_plugin.views import augmentation
from plrc_plugin.views.two_views import TwoViews

SIZE = 224
JITTER, GREY, BLUR = (0.4, 0.4, 0.4, 0.1), 0.2, 0.5


def ours(points=True, photometric='loader'):
    """Two views with geometry, and, unless told otherwise, the ids and points of their regions."""
    steps = [TwoViews(size=SIZE, photometric=photometric)] + [SampleRegionPoints()] * points

    def load(path, number):
        results = dict(img_path=path, sample_key=SampleKey(0, 0, number))
        for step in steps:
            results = step(results)

    return load


def without_extras(load):
    """The same, decoded and changed by OpenCV alone."""

    def plain(path, number):
        with (
            mock.patch('plrc_plugin.images.jpeg.simplejpeg', None),
            mock.patch.object(augmentation, 'compiled_jitter', None),
            mock.patch('plrc_plugin.regions.grid.compiled_grid', None),
        ):
            load(path, number)

    return plain


def with_plain_bilinear(load):
    """The same with the crop of albumentations, whose filter is not widened where it shrinks."""

    def crop(image, box, size):
        left, top, width, height = box
        return cv2.resize(image[top : top + height, left : left + width], (size, size))

    def plain(path, number):
        with mock.patch.object(augmentation, 'crop_and_resize', crop):
            load(path, number)

    return plain


def twice(decode, transform):
    def load(path, number):
        image = decode(path)
        transform(image), transform(image)

    return load


def by_pillow(path):
    with Image.open(path) as image:
        return image.convert('RGB')


def as_tensor(path):
    return torch.from_numpy(np.array(by_pillow(path))).permute(2, 0, 1)


def lightlys():
    from lightly.transforms import MoCoV2Transform

    transform = MoCoV2Transform(input_size=SIZE)
    return lambda path, number: transform(by_pillow(path))


def albumentations(decode):
    import albumentations as A

    levels = [(1 - x, 1 + x) for x in JITTER[:3]] + [(-JITTER[3], JITTER[3])]
    steps = A.Compose(
        [
            A.RandomResizedCrop((SIZE, SIZE), scale=(0.2, 1)),
            A.ColorJitter(*levels, p=0.8),
            A.ToGray(p=GREY),
            A.GaussianBlur(blur_limit=0, sigma_limit=(0.1, 2), p=BLUR),
            A.HorizontalFlip(p=0.5),
        ]
    )
    return twice(decode, lambda image: steps(image=image))


def albumentations_on_simplejpeg():
    import simplejpeg

    return albumentations(lambda path: simplejpeg.decode_jpeg(Path(path).read_bytes()))


def torchvisions():
    from torchvision.transforms import v2

    return twice(
        as_tensor,
        v2.Compose(
            [
                v2.RandomResizedCrop(SIZE, scale=(0.2, 1), antialias=True),
                v2.RandomApply([v2.ColorJitter(*JITTER)], p=0.8),
                v2.RandomGrayscale(GREY),
                v2.RandomApply([v2.GaussianBlur(13, (0.1, 2))], p=BLUR),
                v2.RandomHorizontalFlip(),
            ]
        ),
    )


def kornias():
    import kornia.augmentation as K

    steps = torch.nn.Sequential(
        K.RandomResizedCrop((SIZE, SIZE), scale=(0.2, 1)),
        K.ColorJitter(*JITTER, p=0.8),
        K.RandomGrayscale(p=GREY),
        K.RandomGaussianBlur((13, 13), (0.1, 2), p=BLUR),
        K.RandomHorizontalFlip(),
    )
    return twice(as_tensor, lambda image: steps(image[None] / 255))


PEERS = {
    'albumentations': ('albumentations', lambda: albumentations(cv2.imread)),
    'albumentations on simplejpeg': ('albumentations', albumentations_on_simplejpeg),
    'lightly': ('lightly', lightlys),
    'torchvision v2': ('torchvision', torchvisions),
    'kornia': ('kornia', kornias),
}
# Of these no pipeline is kept here: each needs files of its own, or a build of its own.
NOT_MEASURED = 'FFCV, DALI'
CONFIGS = (
    'plrc_in1k',
    'mocov2_in1k',
    'regioncontrast_in1k',
    'densecl_in1k',
    'pixpro_in1k',
)
CARD = 100e12  # products and sums a second that a GPU is taken to sustain
DIFFERENCES = """What each does otherwise than ours:

- **albumentations**: no geometry, no regions. Its crop is bilinear without a wider filter where it
  shrinks, its views are those of a random stream that depends on the worker.
- **lightly**, **torchvision v2**: no regions. Pillow's filter, on Pillow's images or on tensors;
  lightly normalises too.
- **kornia**: float32, made for batches on a GPU; here one image at a time, as a loader does.
- **Decoding alone** is the limit of all: OpenCV's `imread`, no view.

Ours has Pillow's pixels of a JPEG, to the bit, with any of its decoders. Where both sides of a crop
shrink it has Pillow's anti-aliased bilinear filter, to a level; the mean over areas that it had
before made gradients 3 % (of a 320-pixel photograph, views of 224) to 10 % (views of 112) stronger.
Where one side shrinks and the other grows, they are 2 to 5 % stronger than Pillow's. The row *plain
bilinear crops* says what the filter costs: with it the loader does what albumentations does.
"""


def over(paths: Sequence[str], load: Callable[[str, int], object]) -> Callable[[], object]:
    return lambda: [load(path, i) for i, path in enumerate(paths)]


def enlarged(paths: Sequence[str], side: int, folder: str) -> list[str]:
    """Copies with a longer side of so many pixels, by Pillow's Lanczos filter, quality 95."""
    made = []
    for i, path in enumerate(paths):
        image = by_pillow(path)
        scale = side / max(image.size)
        image = image.resize([round(x * scale) for x in image.size], Image.Resampling.LANCZOS)
        made.append(str(Path(folder) / f'{i}.jpg'))
        image.save(made[-1], quality=95)
    return made


class Loads(torch.utils.data.Dataset):
    def __init__(self, paths):
        self.paths, self.load = paths, ours()

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, number):
        self.load(self.paths[number], number)
        return number


def of_workers(paths: Sequence[str]) -> str:
    """Images per second by the clock, for 1 to as many workers as there are cores."""
    rows = []
    for workers in (1, 2, 4, 8, 16):
        if workers > (os.cpu_count() or 1):
            break
        loader = DataLoader(
            Loads(list(paths) * 8), 32, num_workers=workers, persistent_workers=True
        )
        list(loader)
        start = time.perf_counter()
        list(loader)
        rows.append([workers, len(loader.dataset) / (time.perf_counter() - start)])
    return table(['workers', 'images per second'], rows)


def of_configs(folder: str, milliseconds: dict[str, float]) -> str:
    """Images per second that a step of each config takes of the loader, and the cores for them."""
    rows = []
    for name in CONFIGS:
        config = Config.fromfile(ROOT / 'configs' / f'{name}.py')
        data = ImageFolder(folder, pipeline=config.train_dataloader.dataset.pipeline)
        batch = collate_views([data[SampleKey(0, 0, i)] for i in range(2)])
        model = MODELS.build(config.model)
        wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.03))
        each = flops(partial(model.train_step, batch, wrapper)) / 2
        rate = CARD / each
        cores = [rate * ms / 1000 for ms in milliseconds.values()]
        rows.append([f'`{name}`', each / 1e9, rate, *cores])
    return table(
        ['config', 'GFLOP per image', 'images per second', *(f'cores, {x}' for x in milliseconds)],
        rows,
    )


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


def breakdown(paths) -> str:
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
        total = cost_of(over(paths, ours())).cpu
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
    parser = arguments(__doc__, rounds=5)
    parser.add_argument('--images', type=int, default=100)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    data = ImageFolder(
        photos(args.photos), pipeline=[lambda record: record['img_path']], test_mode=True
    )
    paths = [
        data[i] for i in np.linspace(0, len(data) - 1, min(args.images, len(data))).astype(int)
    ]
    cases = {
        'plrc_plugin, views, regions, points': ours(),
        'plrc_plugin, without the extra speed': without_extras(ours()),
        'plrc_plugin, plain bilinear crops': with_plain_bilinear(ours()),
        'plrc_plugin, views': ours(points=False),
        'plrc_plugin, photometric on the device': ours(photometric='device'),
    }
    missing = []
    for name, (module, make) in PEERS.items():
        needed = [module] + ['simplejpeg'] * ('simplejpeg' in name)
        if all(importlib.util.find_spec(x) for x in needed):
            cases[name] = make()
        else:
            missing.append(name)
    cases['decoding alone (OpenCV)'] = lambda path, number: cv2.imread(path)
    cases['decoding alone (ours)'] = lambda path, number: read_image(path)
    with tempfile.TemporaryDirectory() as folder:
        sets = dict(original=paths, enlarged=enlarged(paths, 500, folder))
        costs = {
            name: interleaved({k: over(of, load) for k, load in cases.items()}, args.rounds)
            for name, of in sets.items()
        }
        sizes = {name: max(Image.open(of[0]).size) for name, of in sets.items()}
        files = {name: np.mean([os.path.getsize(x) for x in of]) / 1e3 for name, of in sets.items()}
    each = {
        name: {case: 1000 * median(x).cpu / len(paths) for case, x in of.items()}
        for name, of in costs.items()
    }
    rows = [[case, *(each[name][case] for name in sets)] for case in cases]
    loader, device = next(iter(cases)), 'plrc_plugin, photometric on the device'
    full = each['original']
    write(
        'loader',
        'Loader: CPU time of a photograph',
        f'{len(paths)} photographs, taken evenly from the folder, with a longer side of '
        f'{sizes["original"]} pixels ({files["original"]:.0f} kB), and the same enlarged to '
        f'{sizes["enlarged"]} by a Lanczos filter and saved in quality 95 '
        f'({files["enlarged"]:.0f} kB). Two views of {SIZE}, decode included, one process, one '
        f'thread; medians of {args.rounds} rounds in turns. '
        f'Left out, as not installed: {", ".join(missing) or "none"}. '
        f'Not measured: {NOT_MEASURED}.',
        table(['loader', *(f'ms, side {side}' for side in sizes.values())], rows),
        bars('loader', each['original'], f'CPU, ms per photograph, side {sizes["original"]}'),
        DIFFERENCES,
        'Where our time goes:\n\n' + breakdown(paths),
        'What is left, and why: [README.md](README.md#what-the-loader-does).',
        'Workers, regions and points included, by the clock, as far as there are cores:\n\n'
        + of_workers(paths),
        'Cores that feed one GPU. The products of a step are counted, and the GPU is taken to '
        f'sustain {CARD / 1e12:.0f} TFLOP/s: multiply by what yours does. Photographs of side '
        f'{sizes["original"]}, with the steps of colour in the loader or on the device.\n\n'
        + of_configs(data.data_root, {'loader': full[loader], 'device': full[device]}),
    )


if __name__ == '__main__':
    main()
