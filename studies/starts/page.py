"""Writes the tables of README.md from the numbers in probes/.

python studies/starts/page.py                          # from what is in the repository
python studies/starts/page.py work_dirs/starts/probes  # takes newer numbers over first
"""

import argparse
import json
import re
import shutil
import statistics
from pathlib import Path

HERE = Path(__file__).resolve().parent
COLUMNS = {
    'linear_seg/mIoU': ('linear mIoU', '.1f'),
    'knn_seg/mIoU': ('k-NN mIoU', '.1f'),
    'affinity/auc': ('AUC', '.3f'),
    'affinity/auc_same_offset': ('AUC, same offset', '.3f'),
    'classify/knn': ('classify k-NN', '.1f'),
}
NAMES = {
    'start': 'the start as it is',
    'plrc': 'PLRC',
    'plrc_without_la': 'PLRC without L_a',
    'plrc_half': 'PLRC without L_a, L_c at half weight',
    'region': 'region-level contrast',
    'densecl': 'DenseCL',
    'mocov2': 'MoCo v2',
}
NAME = re.compile(r'(?P<method>\w+?)(?P<changes>(-(?!seed)\w+)*)(-seed(?P<seed>\d+))?$')


def found() -> list[dict]:
    """What each file holds, with ``method`` and ``changes`` of its trunk."""
    rows = []
    for file in sorted((HERE / 'probes').glob('*.json')):
        row = json.loads(file.read_text())
        parts = NAME.match(row['trunk'].replace('/', '-'))
        rows.append(dict(row, method=parts['method'], changes=parts['changes']))
    return rows


def table(rows: list[dict], order: list[str], title: str, label) -> str:
    """A Markdown table; a row of several seeds has their mean and range."""
    lines = [f'| {title} | seeds | ' + ' | '.join(name for name, _ in COLUMNS.values()) + ' |']
    lines.append('|' + '---|' * (len(COLUMNS) + 2))
    for key in order:
        chosen = [row for row in rows if label(row) == key]
        if not chosen:
            continue
        cells = []
        for column, (_, form) in COLUMNS.items():
            values = [row['numbers'][column] for row in chosen]
            cell = format(statistics.mean(values), form)
            if len(values) > 1:
                cell += f' ({min(values):{form}} to {max(values):{form}})'
            cells.append(cell)
        lines.append(f'| {NAMES.get(key, key)} | {len(chosen)} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def tables() -> dict[str, str]:
    """The tables by the names that stand in README.md."""
    rows = found()
    final = [row for row in rows if row['images'] == 'val']
    search = [row for row in rows if row['images'] == 'select']
    methods = list(NAMES)

    def of(kind: str, changes: str) -> list[dict]:
        return [
            row
            for row in final
            if row['statistics'] == kind and (row['changes'] == changes or row['method'] == 'start')
        ]

    start = [row for row in final if row['trunk'] == 'start' and row['statistics'] == 'own']
    crops = [row for row in of('start', '') if row['method'] != 'start']
    searched = [row for row in search if row['statistics'] == 'own']
    kinds = [row for row in search if row['trunk'] == 'start']

    def name(row: dict) -> str:
        return row['method'] + row['changes']

    return dict(
        kept=table(of('own', '-kept'), methods, 'trunk', lambda row: row['method']),
        crops=table(start + crops, methods, 'trunk', lambda row: row['method']),
        clean=table(of('clean400', ''), methods, 'trunk', lambda row: row['method']),
        own=table(of('own', ''), methods, 'trunk', lambda row: row['method']),
        search=table(searched, sorted({name(r) for r in searched}), 'setting, seed 10', name),
        statistics=table(
            kinds,
            ['own', *sorted({r['statistics'] for r in kinds} - {'own'})],
            'statistics of the start',
            lambda row: row['statistics'],
        ),
    )


def main():
    """Puts each table between its markers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('newer', nargs='?', type=Path, help='folder of newer probes')
    args = parser.parse_args()
    for file in args.newer.glob('*.json') if args.newer else ():
        shutil.copy(file, HERE / 'probes')
    page = HERE / 'README.md'
    text = page.read_text()
    for name, lines in tables().items():
        text = re.sub(
            rf'(<!-- {name} -->\n).*?(<!-- end -->)',
            lambda match, lines=lines: match[1] + lines + '\n' + match[2],
            text,
            flags=re.S,
        )
    page.write_text(text)


if __name__ == '__main__':
    main()
