"""CPU time of the loader per image of 16 bits and 5 bands, beside the same as an 8-bit JPEG."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image
from report import arguments, bars, interleaved, median, paired_ratio, photos, table, write

from plrc_plugin.datasets.image_folder import ImageFolder
from plrc_plugin.randomness import SampleKey

WINDOW = (0, 65535)
STRIPS, TILES = {}, dict(tile=(256, 256))
# Of each case: its suffix, how it is written, and the settings of TwoViews that read it.
CASES = {
    '8 bits, 3 bands: TIFF': ('.tif', dict(channels=3, window=(0, 255)), 'uint8', STRIPS),
    '16 bits, 1 band: PNG': ('.png', dict(channels=1, window=WINDOW), 'uint16', None),
    '16 bits, 3 bands: TIFF': ('.tif', dict(channels=3, window=WINDOW), 'uint16', STRIPS),
    '16 bits, 5 bands: TIFF': ('.tif', dict(channels=5, window=WINDOW), 'uint16', STRIPS),
    '16 bits, 5 bands: TIFF, tiles': ('.tif', dict(channels=5, window=WINDOW), 'uint16', TILES),
    '16 bits, 5 bands: TIFF, tiles, deflated': (
        '.tif',
        dict(channels=5, window=WINDOW),
        'uint16',
        dict(TILES, compression='zlib', predictor=True),
    ),
    '32-bit float, 5 bands: TIFF': ('.tif', dict(channels=5, window=WINDOW), 'float32', STRIPS),
}
JPEG = '8 bits, 3 bands: JPEG, without channels'


def bands_of(path: Path, channels: int, dtype: str) -> np.ndarray:
    """A photograph as (H, W, channels) of a type. Further bands are mixtures of its colours, and
    of more than 8 bits the lower ones are noise, as those of a sensor are."""
    with Image.open(path) as image:
        colours = np.asarray(image.convert('RGB'))
    if channels == 1:
        colours = colours[..., 1:2]
    mixed = [colours[..., i - 3 : i - 2] // 2 + colours[..., 2:] // 2 for i in range(3, channels)]
    values = np.concatenate([colours, *mixed], axis=2)
    if dtype == 'uint8':
        return values
    noise = np.random.default_rng(0).integers(0, 256, values.shape, dtype=np.uint16)
    return (values.astype(np.uint16) * 256 + noise).astype(dtype)


def make(paths: Iterable[Path], place: Path, case: str) -> None:
    """The photographs in the format of a case."""
    suffix, settings, dtype, layout = CASES[case]
    place.mkdir()
    for number, path in enumerate(paths):
        values, written = bands_of(path, settings['channels'], dtype), place / f'{number}{suffix}'
        if layout is None:
            cv2.imwrite(str(written), values)
        else:
            tifffile.imwrite(
                written,
                values,
                photometric='rgb' if values.shape[2] == 3 else 'minisblack',
                planarconfig='contig',
                **layout,
            )


def opened(folder: Path, size: int, **settings) -> ImageFolder:
    steps = [
        dict(type='plrc_plugin.TwoViews', size=size, **settings),
        dict(type='plrc_plugin.SampleRegionPoints'),
    ]
    return ImageFolder(str(folder), pipeline=steps)


def over(data: ImageFolder):
    return lambda: [data[SampleKey(0, 0, index)] for index in range(len(data))]


def main() -> None:
    parser = arguments(__doc__, rounds=5)
    parser.add_argument('--images', type=int, default=100)
    parser.add_argument('--size', type=int, default=224)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    folder = ImageFolder(photos(args.photos))
    chosen = np.linspace(0, len(folder) - 1, min(args.images, len(folder))).astype(int)
    paths = [Path(folder.image_record(int(i))['img_path']) for i in chosen]
    with tempfile.TemporaryDirectory() as place:
        jpegs = Path(place) / 'jpeg'
        jpegs.mkdir()
        for number, path in enumerate(paths):
            (jpegs / f'{number}{path.suffix}').symlink_to(path.resolve())
        loads, sizes = {JPEG: over(opened(jpegs, args.size))}, {JPEG: jpegs}
        for number, (case, (_, settings, *_)) in enumerate(CASES.items()):
            sizes[case] = Path(place) / str(number)
            make(paths, sizes[case], case)
            loads[case] = over(opened(sizes[case], args.size, **settings))
        costs = interleaved(loads, args.rounds)
        kilobytes = {
            case: sum(path.stat().st_size for path in where.iterdir()) / len(paths) / 1e3
            for case, where in sizes.items()
        }
    each = {case: 1000 * median(cost).cpu / len(paths) for case, cost in costs.items()}
    write(
        'rasters',
        'Loader: CPU time of an image of other depths',
        f'{len(paths)} photographs, taken evenly from the folder, as they are and as images of '
        'other depths: further bands are mixtures of the colours, and the lower bits are noise. '
        f'Two views of {args.size}, regions and points included, decode included, with the '
        'photometric steps that are the default for each kind. One process, one thread; medians '
        f'of {args.rounds} rounds in turns.',
        table(
            ['images', 'kB a file', 'CPU, ms per image', 'images per CPU second', 'times JPEG'],
            [
                [c, kilobytes[c], each[c], 1000 / each[c], paired_ratio(costs[c], costs[JPEG]).cpu]
                for c in costs
            ],
        ),
        bars('rasters', each, 'CPU, ms per image'),
    )


if __name__ == '__main__':
    main()
