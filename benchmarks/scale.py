"""Start-up and memory over millions of made-up names, tar members and Parquet rows."""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from report import ROOT, arguments, bars, table, write

PER_FOLDER = 1000
EMPTY = tarfile.TarInfo('').tobuf(tarfile.USTAR_FORMAT)
EMPTY_TOTAL = tarfile.nti(EMPTY[148:156])
# Opens a data root in a process of its own, and tells what it cost.
OPEN = """
import json, resource, sys, time
import plrc_plugin
from plrc_plugin.datasets.image_folder import ImageFolder
from plrc_plugin.datasets.samplers import KeyedSampler
def rss():
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6
before, began = rss(), time.process_time()
data = ImageFolder(**json.loads(sys.argv[1]))
opened = time.process_time()
keys = iter(KeyedSampler(data, seed=0))
for _ in range(1000):
    data.image_record(next(keys).index)
first = time.process_time()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
print(json.dumps([len(data), opened - began, first - opened, rss() - before, peak - before]))
"""


def names(count: int) -> Iterator[str]:
    """As ImageNet names its images."""
    for i in range(count):
        yield f'n{i // PER_FOLDER:08d}/n{i // PER_FOLDER:08d}_{i % PER_FOLDER:05d}.JPEG'


def make_list(place: Path, count: int) -> dict:
    """A list of files, the first of which is there."""
    first = place / next(names(1))
    first.parent.mkdir()
    first.touch()
    with open(place / 'list.txt', 'w') as file:
        file.writelines(f'{name}\n' for name in names(count))
    return dict(data_root=str(place), ann_file='list.txt')


def make_tars(place: Path, count: int, shards: int = 10) -> dict:
    """Members without a byte: all that an index sees of a member is its header."""
    with ExitStack() as stack:
        paths = [place / f'{number:06}.tar' for number in range(shards)]
        files = [stack.enter_context(open(path, 'wb')) for path in paths]
        for number, name in enumerate(names(count)):
            files[number % shards].write(header(name.encode()))
        for file in files:
            file.write(bytes(20 * 512))
    return dict(data_root=f'{place}/*.tar')


def header(name: bytes) -> bytes:
    """Of an empty member; tarfile takes ten times as long for it."""
    total = sum(name) + EMPTY_TOTAL
    return b'%s%s%06o%s' % (name, EMPTY[len(name) : 148], total, EMPTY[154:])


def make_parquet(place: Path, count: int) -> dict:
    """Rows of a few bytes each, in row groups of 100."""
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema({'image': pa.struct({'bytes': pa.binary(), 'path': pa.string()})})
    every, step = list(names(count)), 100_000
    with parquet.ParquetWriter(place / 'rows.parquet', schema) as writer:
        for start in range(0, count, step):
            rows = [dict(bytes=b'', path=name) for name in every[start : start + step]]
            writer.write_table(pa.table({'image': rows}, schema=schema), row_group_size=100)
    return dict(data_root=str(place / 'rows.parquet'))


def opened(settings: dict, cache: Path) -> list[float]:
    """Images, CPU seconds to open and for a thousand records, MB kept and at the peak."""
    output = subprocess.run(
        [sys.executable, '-c', OPEN, json.dumps(settings)],
        cwd=ROOT,
        env=dict(os.environ, XDG_CACHE_HOME=str(cache)),
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    ).stdout
    return json.loads(output.splitlines()[-1])


def main() -> None:
    parser = arguments(__doc__, rounds=1)
    parser.add_argument('--entries', type=int, nargs='+', default=[1_000_000, 10_000_000])
    args = parser.parse_args()
    rows, seconds = [], {}
    makers = {'names in a list': make_list, 'tar members': make_tars, 'Parquet rows': make_parquet}
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        print("no Parquet: install the extra 'parquet'")
        del makers['Parquet rows']
    for count in args.entries:
        for kind, make in makers.items():
            with tempfile.TemporaryDirectory() as place:
                (Path(place) / 'data').mkdir()
                settings = make(Path(place) / 'data', count)
                for path in (Path(place) / 'data').iterdir():
                    os.utime(path, (0, 0))
                for again in (False, True):
                    found, start, first, kept, peak = opened(settings, Path(place) / 'cache')
                    assert found == count
                    indexed = kind == 'names in a list' or not again
                    rows.append(
                        [
                            f'{count:,} {kind}',
                            ('read' if kind == 'names in a list' else 'made')
                            if indexed
                            else 'remembered',
                            start,
                            first,
                            kept,
                            peak,
                        ]
                    )
                    seconds[f'{count:,} {kind}, {rows[-1][1]}'] = start
                    print(rows[-1], flush=True)
                    if kind == 'names in a list':
                        break
    write(
        'scale',
        'Start-up and memory over millions of entries',
        'Made-up entries with names like those of ImageNet, 28 bytes each: a text list, 10 tar '
        'shards of empty members, one Parquet file of empty rows in row groups of 100. Each is '
        'opened in a process of its own, whose seconds on a core these are. The memory is what it '
        'has more than after its imports.',
        table(
            [
                'entries',
                'index',
                'opened, CPU s',
                'order and 1000 records, CPU s',
                'kept, MB',
                'at the peak, MB',
            ],
            rows,
        ),
        bars('scale', seconds, 'CPU seconds to open'),
    )


if __name__ == '__main__':
    main()
