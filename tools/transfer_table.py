"""Fine-tune checkpoints with transfer configs over seeds; one table of all results.

  python tools/transfer_table.py --work-dir work_dirs/transfer --seeds 0 1 2 \
      --checkpoints scratch torchvision=resnet50.pth plrc=work_dirs/plrc_in1k/epoch_200.pth \
      --configs configs/mmdet/faster-rcnn_r50-c4_24k_voc0712.py configs/mmseg/fcn_r50-....py

Every run goes through tools/train.py in <work-dir>/<config>/<checkpoint>/seed<n>. Started again,
the tool skips finished runs and resumes the others. It writes table.md, table.csv and table.png.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, stdev

TRAIN = Path(__file__).with_name('train.py')
BOOKKEEPING = ('step', 'epoch', 'iter', 'time', 'data_time', 'memory')
# What the papers report, in percent: metric -> (column, factor). The first found is drawn.
COLUMNS = {
    'voc/AP': ('VOC AP', 1),
    'voc/AP50': ('VOC AP50', 1),
    'voc/AP75': ('VOC AP75', 1),
    'coco/bbox_mAP': ('box AP', 100),
    'coco/bbox_mAP_50': ('box AP50', 100),
    'coco/bbox_mAP_75': ('box AP75', 100),
    'coco/segm_mAP': ('mask AP', 100),
    'coco/segm_mAP_50': ('mask AP50', 100),
    'coco/segm_mAP_75': ('mask AP75', 100),
    'mIoU': ('mIoU', 1),
}


class WithDefaults(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the description, and adds defaults to the options."""


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=WithDefaults)
    parser.add_argument(
        '--checkpoints',
        nargs='+',
        required=True,
        metavar='NAME=FILE',
        help="'scratch', a file, or the work dir of a run for its newest, with NAME= before it if "
        'it needs a name; nothing is downloaded',
    )
    parser.add_argument('--configs', nargs='+', required=True, help='of mmdet or mmseg')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0], help='a run for each')
    parser.add_argument('--work-dir', default='work_dirs/transfer', help='of all runs')
    parser.add_argument('--gpus', type=int, default=1, help='processes of one run, by torchrun')
    parser.add_argument('--jobs', type=int, default=1, help='runs at a time, for CPUs')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='for every run'
    )
    return parser.parse_args()


def named_checkpoints(entries):
    """``{name: file}`` of 'scratch', 'FILE' and 'NAME=FILE'; a work dir means its newest.

    Raises:
        SettingsError: if a file does not exist, or two checkpoints have one name.
    """
    from plrc_plugin.checkpoints.work_dir import checkpoint_of
    from plrc_plugin.errors import SettingsError

    found = {}
    for entry in entries:
        name, _, path = entry.partition('=')
        if not path or Path(entry).exists():  # without a name; paths may hold a '='
            name, path = Path(entry).stem, entry
        if path != 'scratch' and not Path(path).exists():
            raise SettingsError(f'no file {path}; give scratch, FILE or NAME=FILE')
        path = path if path == 'scratch' else checkpoint_of(path)
        if name in found:
            raise SettingsError(f'two checkpoints are called {name}; use NAME=FILE')
        found[name] = path
    return found


def is_metric(name, value):
    """mmengine's counters are none, and neither are mmdet's lines of text."""
    return name not in BOOKKEEPING and isinstance(value, (int, float))


def last_metrics(run_dir):
    """The metrics of the last evaluation that a run logged: those of COLUMNS, or where a config's
    evaluator gives none of them, all that it gives, by their own names."""
    logs = sorted(run_dir.glob('*/vis_data/scalars.json')) or sorted(
        run_dir.glob('*/vis_data/*.json')
    )
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    evaluated = [
        {name: value for name, value in line.items() if is_metric(name, value)}
        for line in lines
        if 'loss' not in line
    ]
    found = [line for line in evaluated if line]
    if not found:
        sys.exit(
            f'transfer_table: {run_dir} logged no evaluation. If it was cut off in its last one, '
            'remove the folder to train again'
        )
    known = {
        COLUMNS[name][0]: value * COLUMNS[name][1]
        for name, value in found[-1].items()
        if name in COLUMNS
    }
    return known or found[-1]


def run(config, checkpoint, seed, run_dir, args):
    """Metrics of one run: of an earlier call, or trained now, resuming what is there."""
    from plrc_plugin.errors import SettingsError

    settings = dict(config=config, pretrained=checkpoint, seed=seed, cfg_options=args.cfg_options)
    record, result = run_dir / 'settings.json', run_dir / 'metrics.json'
    if record.is_file() and json.loads(record.read_text()) != settings:
        raise SettingsError(
            f'{run_dir} holds a run with other settings; remove it, or give another --work-dir'
        )
    if not result.is_file():
        run_dir.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(settings))
        start = [sys.executable]
        if args.gpus > 1:
            start += [
                '-m',
                'torch.distributed.run',
                '--standalone',
                f'--nproc_per_node={args.gpus}',
            ]
        command = [*start, str(TRAIN), config, '--work-dir', str(run_dir), '--resume']
        if args.gpus > 1:
            command += ['--launcher', 'pytorch']
        command += [
            '--cfg-options',
            *args.cfg_options,
            f'pretrained={checkpoint}',
            f'randomness.seed={seed}',
        ]
        print('+', ' '.join(command), flush=True)
        # Threads of several runs on the same cores wait for each other: measured 5 times slower.
        env = {**({'OMP_NUM_THREADS': '1'} if args.jobs > 1 else {}), **os.environ}
        with open(run_dir / 'output.txt', 'a') as output:
            code = subprocess.call(command, stdout=output, stderr=subprocess.STDOUT, env=env)
        if code:
            tail = (run_dir / 'output.txt').read_text().splitlines()[-5:]
            sys.exit('\n'.join([f'transfer_table: a run failed, see {run_dir}/output.txt', *tail]))
        result.write_text(json.dumps(last_metrics(run_dir)))
    return json.loads(result.read_text())


def summarise(results):
    """``{(config, checkpoint): [metrics per seed]}`` -> rows of (config, checkpoint, metric, mean,
    sample std or None, values)."""
    return [
        (
            config,
            checkpoint,
            metric,
            mean(values),
            stdev(values) if len(values) > 1 else None,
            values,
        )
        for (config, checkpoint), runs in results.items()
        for metric in runs[0]
        for values in [[run[metric] for run in runs]]
    ]


def number(value, spread):
    return f'{value:.2f}' + (f' ± {spread:.2f}' if spread is not None else '')


def write_markdown(rows, path, pictures=()):
    """One table per config, the checkpoints below each other; then pictures of the runs."""
    lines = []
    for config in dict.fromkeys(row[0] for row in rows):
        mine = [row for row in rows if row[0] == config]
        metrics = list(dict.fromkeys(row[2] for row in mine))
        seeds = len(mine[0][5])
        unit = (
            'in percent'
            if set(metrics) <= {column for column, _ in COLUMNS.values()}
            else ('as logged')
        )
        lines += [
            f'## {config}',
            '',
            f'Mean ± standard deviation over {seeds} seeds, {unit}.'
            if seeds > 1
            else f'One seed, {unit}.',
            '',
            '| checkpoint | ' + ' | '.join(metrics) + ' |',
            '|---' * (len(metrics) + 1) + '|',
        ]
        for checkpoint in dict.fromkeys(row[1] for row in mine):
            cells = [number(*row[3:5]) for row in mine if row[1] == checkpoint]
            lines.append(f'| {checkpoint} | ' + ' | '.join(cells) + ' |')
        lines.append('')
    for title, picture in pictures:
        lines += [f'{title} (truth left, prediction right):', '', f'![{title}]({picture})', '']
    path.write_text('\n'.join(lines))


def write_csv(rows, path):
    with open(path, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['config', 'checkpoint', 'metric', 'mean', 'std', 'values'])
        for *key, average, spread, values in rows:
            writer.writerow(
                [*key, average, '' if spread is None else spread, ' '.join(map(str, values))]
            )


def draw_bars(rows, path):
    """One panel per config: its first metric, a bar per checkpoint."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    configs = list(dict.fromkeys(row[0] for row in rows))
    figure, axes = plt.subplots(1, len(configs), figsize=(4.5 * len(configs), 4), squeeze=False)
    for axis, config in zip(axes[0], configs):
        metric = next(row[2] for row in rows if row[0] == config)
        bars = [row for row in rows if row[0] == config and row[2] == metric]
        spreads = [float('nan') if row[4] is None else row[4] for row in bars]
        drawn = axis.bar(
            [row[1] for row in bars], [row[3] for row in bars], yerr=spreads, capsize=4
        )
        axis.bar_label(drawn, [number(*row[3:5]) for row in bars])
        axis.set_title(config, fontsize=9)
        axis.set_ylabel(metric)
        axis.margins(y=0.15)
        axis.tick_params(axis='x', rotation=20)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main():
    args = parse_args()
    from plrc_plugin.terminal import one_line_errors

    with one_line_errors():
        compare(args)


def compare(args):
    """Trains what is not there yet, and writes the table."""
    from plrc_plugin.errors import SettingsError

    work_dir = Path(args.work_dir)
    for config in args.configs:
        if not os.path.isfile(config):
            raise SettingsError(f'no config {config}')
    checkpoints = named_checkpoints(args.checkpoints)
    runs = [
        (config, name, seed)
        for config in args.configs
        for name in checkpoints
        for seed in args.seeds
    ]

    def run_one(entry):
        config, name, seed = entry
        run_dir = work_dir / Path(config).stem / name / f'seed{seed}'
        return run(config, checkpoints[name], seed, run_dir, args)

    metrics = []
    with ThreadPoolExecutor(args.jobs) as pool:
        for number_done, found in enumerate(pool.map(run_one, runs), 1):
            metrics.append(found)
            print(f'{number_done} of {len(runs)} runs are done', flush=True)
    results = {}
    for (config, name, _), found in zip(runs, metrics):
        results.setdefault((Path(config).stem, name), []).append(found)

    rows = summarise(results)
    pictures = [
        (f'{config}, {name}', picture.relative_to(work_dir))
        for config, name in results
        for picture in sorted((work_dir / config / name).rglob('vis_image/*'))[:2]
    ]
    write_markdown(rows, work_dir / 'table.md', pictures)
    write_csv(rows, work_dir / 'table.csv')
    draw_bars(rows, work_dir / 'table.png')
    print((work_dir / 'table.md').read_text())
    print(f'table: {work_dir}/table.md and table.csv; bars: {work_dir}/table.png')


if __name__ == '__main__':
    main()
