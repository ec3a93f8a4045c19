"""Packs photographs into one small file that travels: `python -m benchmarks.gpu.pack --help`.

    python -m benchmarks.gpu.pack PHOTOS photographs.tar --limit 30
    python -m benchmarks.gpu.pack --voc VOCdevkit/VOC2012 voc.tar --limit 20

Photographs become WebP of the given long side. The quality is the highest that keeps the file below
the limit. Of VOC2012 the images with masks are kept, and their masks as PNG, to the pixel.
"""

import argparse
import io
import os
import sys
import tarfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Optional

from PIL import Image

BLOCK = 512  # a .tar has a header of so much for each file, and fills files up to it
EXTENSIONS = ('.jpg', '.jpeg', '.png', '.webp')


def shrunken(path: Path, side: int) -> Image.Image:
    """A photograph of at most this long side."""
    image = Image.open(path)
    image.draft('RGB', (2 * side, 2 * side))
    image = image.convert('RGB')
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def encoded(path: Path, side: int, quality: int) -> bytes:
    stream = io.BytesIO()
    shrunken(path, side).save(stream, 'WEBP', quality=quality, method=4)
    return stream.getvalue()


def mask(path: Path, side: int) -> bytes:
    """A mask of class indices, shrunken without mixing them."""
    image = Image.open(path)
    scale = min(1, side / max(image.size))
    size = [max(1, round(x * scale)) for x in image.size]
    stream = io.BytesIO()
    image.resize(size, Image.Resampling.NEAREST).save(stream, 'PNG', optimize=True)
    return stream.getvalue()


def in_tar(size: int) -> int:
    """Bytes that a file of this size takes in a .tar."""
    return BLOCK + -(-size // BLOCK) * BLOCK


def best_quality(paths: list[Path], side: int, room: int, pool: ProcessPoolExecutor) -> int:
    """The highest quality at which a sample says that all fit, with 3% to spare; 0 if none."""
    sample = paths[:: max(1, len(paths) // 100)]
    low, high = 0, 95
    while low < high:
        middle = (low + high + 1) // 2
        sizes = [len(x) for x in pool.map(partial(encoded, side=side, quality=middle), sample)]
        fits = sum(map(in_tar, sizes)) / len(sample) * len(paths) <= 0.97 * room
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def write(target: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """A .tar, whole or not at all, the same bytes for the same files."""
    beside = target.with_suffix('.part')
    with tarfile.open(beside, 'w') as tar:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    os.replace(beside, target)


def pack(
    paths: list[Path],
    names: list[str],
    extra: dict[str, bytes],
    target: Path,
    side: int,
    limit: int,
) -> tuple[int, int]:
    """Writes the .tar, and returns its quality and size."""
    with ProcessPoolExecutor() as pool:
        room = limit - sum(in_tar(len(x)) for x in extra.values()) - 20 * BLOCK
        quality = best_quality(paths, side, room, pool)
        while quality > 0:
            images = pool.map(partial(encoded, side=side, quality=quality), paths, chunksize=16)
            write(target, _files(names, images, extra))
            if target.stat().st_size <= limit:
                return quality, target.stat().st_size
            quality -= 2
    target.unlink(missing_ok=True)
    sys.exit(
        f'{len(paths)} photographs of {side} pixels do not fit into {limit / 1e6:.0f} MB: set a '
        'smaller --side or a larger --limit'
    )


def _files(
    names: list[str], images: Iterable[bytes], extra: dict[str, bytes]
) -> Iterator[tuple[str, bytes]]:
    yield from zip(names, images)
    yield from extra.items()


def of_folder(folder: Path, most: Optional[int]) -> tuple[list[Path], list[str], dict]:
    paths = sorted(p for p in folder.rglob('*') if p.suffix.lower() in EXTENSIONS)[:most]
    return paths, [f'{p.relative_to(folder).with_suffix("")}.webp' for p in paths], {}


def of_voc(folder: Path, side: int, most: Optional[int]) -> tuple[list[Path], list[str], dict]:
    """Images, names and the rest of VOC2012's segmentation, in its own layout. A .jpg that holds
    WebP is read all the same."""
    extra, paths, names = {}, [], []
    for split in ('train', 'val'):
        listed = f'ImageSets/Segmentation/{split}.txt'
        ids = (folder / listed).read_text().split()[:most]
        extra[listed] = ('\n'.join(ids) + '\n').encode()
        for i in ids:
            paths.append(folder / 'JPEGImages' / f'{i}.jpg')
            names.append(f'JPEGImages/{i}.jpg')
            for kind in ('SegmentationClass', 'SegmentationObject'):
                if (folder / kind / f'{i}.png').exists():
                    extra[f'{kind}/{i}.png'] = mask(folder / kind / f'{i}.png', side)
    return paths, names, extra


def main(arguments: Optional[list[str]] = None) -> None:
    parser = argparse.ArgumentParser(
        description='Pack photographs into one small file', epilog=__doc__.split('\n\n', 1)[1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument('source', type=Path, help='folder of photographs, or of VOC2012')
    parser.add_argument('target', type=Path, help='the .tar to write')
    parser.add_argument('--voc', action='store_true', help='the source is VOC2012')
    parser.add_argument('--side', type=int, default=224, help='long side in pixels (224)')
    parser.add_argument('--limit', type=float, default=30, help='MB of the file (30)')
    parser.add_argument('--most', type=int, help='photographs, of VOC2012 of each split')
    args = parser.parse_args(arguments)
    if not args.source.is_dir():
        parser.error(f'{args.source} is no folder')
    if args.voc:
        paths, names, extra = of_voc(args.source, args.side, args.most)
    else:
        paths, names, extra = of_folder(args.source, args.most)
    if not paths:
        parser.error(f'{args.source} holds no photographs')
    quality, size = pack(paths, names, extra, args.target, args.side, int(args.limit * 1e6))
    print(
        f'{args.target}: {len(paths)} photographs, long side {args.side}, quality {quality}, '
        f'{size / 1e6:.1f} MB'
    )


if __name__ == '__main__':
    main()
