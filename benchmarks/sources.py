"""Images per second from each place that they can be in, beside the folder."""

import os
import pickle
import random
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path
from unittest import mock

from report import arguments, bars, interleaved, median, paired_ratio, photos, table, write

from plrc_plugin.datasets.image_folder import ImageFolder
from plrc_plugin.images.sources import tables
from plrc_plugin.randomness import SampleKey

BUCKET = 'photographs'


def make_sources(folder: Path, names: list[str], place: Path) -> dict[str, tuple[str, dict]]:
    """Data root and further settings of each source, by its name."""
    files = [(name, folder / name) for name in names]
    with tarfile.open(place / 'one.tar', 'w') as archive:
        for name, path in files:
            archive.add(path.resolve(), arcname=name)
    (place / 'shards').mkdir()
    for number in range(8):
        with tarfile.open(place / f'shards/{number:06}.tar', 'w') as archive:
            for name, path in files[number::8]:
                archive.add(path.resolve(), arcname=name)
    for kind, method in (('stored', zipfile.ZIP_STORED), ('deflated', zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(place / f'{kind}.zip', 'w', method) as archive:
            for name, path in files:
                archive.write(path, name)
    sources = {
        'tar': ('one.tar', {}),
        'tar, 8 shards': ('shards', {}),
        'zip, stored': ('stored.zip', {}),
        'zip, deflated': ('deflated.zip', {}),
    }
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        print("no tables: install the extra 'parquet'")
    else:
        rows = pa.table({'image': [dict(bytes=p.read_bytes(), path=n) for n, p in files]})
        for size in (16, 100):
            parquet.write_table(rows, place / f'{size}.parquet', row_group_size=size)
            sources[f'Parquet, row groups of {size}'] = (f'{size}.parquet', {})
        file = pa.OSFile(str(place / 'x.arrow'), 'wb')
        with file, pa.ipc.new_stream(file, rows.schema) as writer:
            writer.write_table(rows, max_chunksize=1000)
        sources['Arrow, as datasets saves it'] = ('x.arrow', {})
    return {name: (str(place / path), more) for name, (path, more) in sources.items()}


def start_store() -> subprocess.Popen:
    """A real S3 server on this machine, in a process of its own."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    os.environ.update(
        AWS_ENDPOINT_URL=f'http://127.0.0.1:{port}',
        AWS_ACCESS_KEY_ID='benchmark',
        AWS_SECRET_ACCESS_KEY='benchmark',
        AWS_DEFAULT_REGION='us-east-1',
        NO_PROXY='127.0.0.1',
    )
    command = [sys.executable, '-m', 'moto.server', '-H', '127.0.0.1', '-p', str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(100):
        with socket.socket() as knock:
            if knock.connect_ex(('127.0.0.1', port)) == 0:
                return server
        time.sleep(0.2)
    server.kill()
    raise RuntimeError('the S3 server did not start')


def fill_store(folder: Path, names: list[str], sources: dict) -> dict[str, tuple[str, dict]]:
    """The same images in it."""
    import s3fs

    system = s3fs.S3FileSystem()
    system.mkdir(BUCKET)
    for name in names:
        system.put_file(str((folder / name).resolve()), f'{BUCKET}/images/{name}')
    found = {'S3, an object an image': (f's3://{BUCKET}/images', {})}
    for kind, source in (('tar', 'tar'), ('Parquet', 'Parquet, row groups of 16')):
        if source in sources:
            path = sources[source][0]
            system.put_file(path, f'{BUCKET}/{os.path.basename(path)}')
            found[f'S3, {kind}'] = (f's3://{BUCKET}/{os.path.basename(path)}', {})
    return found


def reading(data: ImageFolder, order: list[int]):
    """The bytes alone. As in a worker that has just started, nothing is open."""
    new = pickle.dumps(data)

    def read():
        data = pickle.loads(new)
        for index in order:
            record = data.image_record(index)
            if 'stored' in record:
                record['stored'].read()
            else:
                with open(record['img_path'], 'rb') as file:
                    file.read()

    return read


def training(data: ImageFolder, order: list[int]):
    """Views, regions and points."""
    new = pickle.dumps(data)

    def load():
        data = pickle.loads(new)
        for index in order:
            data[SampleKey(0, 0, index)]

    return load


def main() -> None:
    parser = arguments(__doc__, rounds=5)
    parser.add_argument('--images', type=int, default=400)
    parser.add_argument('--size', type=int, default=224)
    parser.add_argument('--no-store', action='store_true', help='without the S3 server')
    args = parser.parse_args()
    folder = Path(photos(args.photos))
    listed = ImageFolder(str(folder), indices=min(args.images, len(ImageFolder(str(folder)))))
    names = [listed.image_record(i)['name'] for i in range(len(listed))]
    order = random.Random(0).sample(range(len(names)), len(names))
    pipeline = [
        dict(type='plrc_plugin.TwoViews', size=args.size),
        dict(type='plrc_plugin.SampleRegionPoints'),
    ]
    server = None
    with tempfile.TemporaryDirectory() as place:
        os.environ['XDG_CACHE_HOME'] = f'{place}/cache'
        sources = make_sources(folder, names, Path(place))
        try:
            if not args.no_store:
                server = start_store()
                sources |= fill_store(folder, names, sources)
            data = {
                'folder': ImageFolder(str(folder), indices=len(names), pipeline=pipeline),
                **{
                    name: ImageFolder(root, pipeline=pipeline, **more)
                    for name, (root, more) in sources.items()
                },
            }
            # A table of these few images would be kept in memory whole, other than one of millions.
            with mock.patch.object(tables, '_KEPT_BYTES', 0):
                reads = interleaved({n: reading(d, order) for n, d in data.items()}, args.rounds)
                loads = interleaved({n: training(d, order) for n, d in data.items()}, args.rounds)
        finally:
            if server is not None:
                server.kill()
                server.wait()
    rows = [
        [
            name,
            1000 * median(reads[name]).wall / len(names),
            1000 * median(loads[name]).cpu / len(names),
            len(names) / median(loads[name]).wall,
            paired_ratio(loads['folder'], loads[name]).wall,
        ]
        for name in data
    ]
    size = sum((folder / name).stat().st_size for name in names) / len(names) / 1000
    write(
        'sources',
        'Sources: images per second from each place',
        f'{len(names)} files of {size:.0f} kB in random order, two views of {args.size} with '
        f'regions and points, one process; medians of {args.rounds} rounds in turns. Each round '
        'starts as a new worker does, with nothing open, and keeps no row group but the last, as '
        'of a table of millions. All is in the page cache of the machine: what a disk or a network '
        'adds is not in here. The S3 server is one of Python, on the same machine, and shares its '
        'cores: a floor, and no figure of a store.',
        table(
            [
                'source',
                'reading alone, ms',
                'all, CPU ms',
                'images per second',
                'times the folder',
            ],
            rows,
        ),
        bars(
            'sources',
            {name: ratio for name, *_, ratio in rows},
            "images per second ÷ the folder's",
            target=1,
        ),
    )


if __name__ == '__main__':
    main()
