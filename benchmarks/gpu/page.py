"""The page of what the pieces found: docs/gpu.md."""

import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path

from plrc_plugin.recipe import rules

from .catalogue import PIECES
from .pieces import DONE, NEEDS_CUDA, ROOT, Piece, read_json

NOT_RUN = '**Not yet run on a GPU.**'
# Config of a fixed length to the model of the tables of speed that it trains.
FIXED = {
    'plrc_in1k': 'PLRC',
    'plrc_coco': 'PLRC',
    'mocov2_in1k': 'MoCo v2',
    'plrc_without_la_in1k': 'PLRC',
    'regioncontrast_in1k': 'region-level contrast',
    'densecl_in1k': 'DenseCL',
    'pixpro_in1k': 'PixPro',
    'ablations/plrc_in1k_100e': 'PLRC',
    'ablations/regioncontrast_in1k_100e': 'region-level contrast',
    'ablations/plrc_coco_400e': 'PLRC',
    'ablations/regioncontrast_coco_400e': 'region-level contrast',
    'plrc_convnext_tiny': 'ConvNeXt-T by PLRC',
    'plrc_vit_small': 'ViT-S/16 by PLRC',
    'plrc_efficientnet-lite0': 'EfficientNet-Lite0 by PLRC',
}
# Those of the recipe, whose epochs follow from the number of photographs.
OF_RECIPE = {
    'plrc_photos': 'PLRC',
    'mocov2_photos': 'MoCo v2',
    'regioncontrast_photos': 'region-level contrast',
}
PHOTOGRAPHS = (5_000, 20_000, 100_000)

HEAD = """# On a GPU

```sh
make gpu-check
```

{state}

This page is written by that command, from one JSON for each piece. The command needs PyTorch with a
CUDA GPU, and no network. A call takes at most ten minutes. The same line, given again, runs the
pieces that are left:

```sh
python -m benchmarks.gpu --list                  # the pieces, and how long each takes
python -m benchmarks.gpu speed denominators      # some of them
python -m benchmarks.gpu --device cpu --small    # the script itself, without a GPU
```

The environment needs what pre-training needs, and no compiled mmcv. `--missing` says in one line
what a machine lacks. Where it has no network, collect that elsewhere and carry it there:

```sh
python -m benchmarks.gpu --missing               # on the machine
make gpu-wheels GPU_PYTHON=3.12 WHEELS="lightly onedl-mmengine"    # where there is a network
python -m pip install --no-index --no-deps --target site gpu-wheels/*.whl    # on the machine
PYTHONPATH=site python -m benchmarks.gpu
```

Photographs travel as one small file for the training and one for the probes. 5,000 photographs of
a long side of 224 fit into 30 MB, and the 1,449 of VOC2012's segmentation with their masks into 20.
Without `--photos`, scenes are generated.

```sh
python -m benchmarks.gpu.pack PHOTOS photographs.tar --limit 30
python -m benchmarks.gpu.pack --voc VOCdevkit/VOC2012 voc.tar --limit 20
python -m benchmarks.gpu evidence --photos photographs.tar --voc voc.tar
```
"""


def write_page(out: Path, price: float) -> Path:
    """Writes ``<out>.md`` from the JSONs in ``out``."""
    path = out.with_suffix('.md')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page_text(out, price))
    return path


def page_text(out: Path, price: float) -> str:
    records = {name: read_json(out / f'{name}.json') for name in PIECES}
    parts = [HEAD.format(state=state(records)).rstrip()]
    for name, piece in PIECES.items():
        parts += [f'## {piece.title}', paragraph(piece), *found(records[name])]
        if name == 'trunks':
            both = [records[piece] for piece in ('speed', 'trunks')]
            parts += ['### Hours and price', *costs(both, price)]
    return '\n\n'.join(parts) + '\n'


def on_gpu(record) -> bool:
    return bool(record) and record['device'] == 'cuda' and not record['small']


def state(records: dict) -> str:
    """Where the numbers are from; that there are none, if so."""
    ran = [record for record in records.values() if on_gpu(record)]
    small = [record for record in records.values() if record and not on_gpu(record)]
    if small:
        return (
            f'{NOT_RUN} This is a try of the script on {small[0]["device"]}: its numbers mean '
            f'nothing. {small[0]["software"]}.'
        )
    if not ran:
        return (
            f'{NOT_RUN} No GPU was at hand. Every section says what will stand there. The tests '
            'run every piece on a CPU, at a tiny size.'
        )
    cards = sorted({f'{r["card"]} ({r["software"]})' for r in ran if r['card']})
    left = [name for name, record in records.items() if not record or record['status'] != DONE]
    rest = f' Not yet run, or not whole: {", ".join(left)}.' if left else ''
    return f'Run on {"; ".join(cards)}.{rest}'


def paragraph(piece: Piece) -> str:
    """The docstring of its function."""
    return textwrap.fill(' '.join(inspect.getdoc(piece.function).split()), 110)


def found(record) -> list[str]:
    """Checks and tables of a piece as Markdown."""
    if not record:
        return ['Not yet run on a GPU.']
    lines = [f'{record["status"]}, {record["seconds"]:.0f} seconds.']
    if record['card']:
        lines[0] = f'{record["card"]}: {lines[0]}'
    if record['problem']:
        lines.append(f'```text\n{record["problem"].strip()[-800:]}\n```')
    checks = record.get('checks', [])
    rows = [
        [c['name'], 'yes' if c['ok'] else '**no**', c['found'], c.get('allowed', '')]
        for c in checks
        if c['ok'] is False or 'allowed' in c
    ]
    if rows:
        lines.append(table(['check', 'holds', 'found', 'allowed'], rows))
    for what, chosen in (
        ('Holds', [c['name'] for c in checks if c['ok'] and 'allowed' not in c]),
        ('Needs CUDA', [c['name'] for c in checks if c['ok'] is None and c['found'] == NEEDS_CUDA]),
    ):
        if chosen:
            lines.append(f'{what}: {"; ".join(chosen)}.')
    lines += [
        f'{c["name"]}: {c["found"]}.'
        for c in checks
        if c['ok'] is None and c['found'] != NEEDS_CUDA
    ]
    for each in record.get('tables', []):
        if not each['rows']:
            continue  # ended before the first
        lines += [f'{each["title"]}:', table(each['header'], each['rows'])]
    return lines


def costs(records: list, price: float) -> list[str]:
    """Hours on one GPU and their price, for each config, by its fastest step."""
    text = (
        'Images of the config over the images per second of its fastest step above, on one such '
        f'card, at {price:g} dollars per GPU and hour (`--price`). These are steps alone: the '
        'loader has to keep up. On several GPUs the hours are divided by a little less than their '
        'number, and the price rises by as much. Configs without photographs of their own are '
        "counted with ImageNet's, those of the recipe with several numbers of photographs and the "
        'epochs that [the recipe](recipe.md) gives them.'
    )
    measured = [record for record in records if on_gpu(record)]
    if not measured:
        return [text, 'Not yet run on a GPU.']
    numbers = {key: x for record in measured for key, x in record.get('numbers', {}).items()}
    rows = []
    for name, model, start, images, epochs in lengths():
        rates = [x for key, x in numbers.items() if key.startswith(f'{model},')]
        if not rates:
            continue
        hours = images * epochs / max(rates) / 3600
        link = f'[{name}](../configs/{name}.py)'
        rows.append([link, start, f'{images:,}', epochs, hours, hours * price])
    return [text, table(['config', 'from', 'images', 'epochs', 'GPU hours', 'dollars'], rows)]


def lengths() -> Iterator[tuple[str, str, str, int, int]]:
    """Config, model of the tables of speed, start, images and epochs."""
    for name, model in FIXED.items():
        yield name, model, 'scratch', *size_of(name)
    for name, model in OF_RECIPE.items():
        for images in PHOTOGRAPHS:
            for weights in (False, True):
                yield (
                    name,
                    model,
                    'weights' if weights else 'scratch',
                    images,
                    epochs_of(images, weights),
                )


def epochs_of(images: int, weights: bool) -> int:
    """Of the recipe, on one GPU and without a budget."""
    facts = rules.Facts(
        images=images, side=None, processes=1, gpu=True, cores=16, memory=None, half='bfloat16',
        weights=weights, budget={},
    )  # fmt: skip
    batch = rules.batch_size(facts, 224).value
    return rules.epochs(facts, rules.iterations_per_epoch(images, 1, batch)).value


def size_of(name: str) -> tuple[int, int]:
    """Images and epochs of a config of fixed length."""
    from mmengine.config import Config

    epochs = Config.fromfile(ROOT / 'configs' / f'{name}.py').train_cfg.max_epochs
    return (118_287 if 'coco' in name else 1_281_167), epochs


def table(header: list, rows: list) -> str:
    def cell(value) -> str:
        text = f'{value:.3g}' if isinstance(value, float) else str(value)
        return ' '.join(text.split()).replace('|', '/')

    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join('| ' + ' | '.join(map(cell, line)) + ' |' for line in lines)
