"""Fine-tune checkpoints with transfer configs over seeds; one table of all results.

  python tools/transfer_table.py --work-dir work_dirs/transfer --seeds 0 1 2 \
      --checkpoints scratch torchvision=resnet50.pth plrc=work_dirs/plrc_in1k/epoch_200.pth \
      --configs configs/mmdet/faster-rcnn_r50-c4_24k_voc0712.py configs/mmseg/fcn_r50-....py

Every run goes through tools/train.py in <work-dir>/<config>/<checkpoint>/seed<n>. Started again,
the tool skips finished runs and resumes the others. It writes table.md, table.csv and table.png.
"""

import argparse
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TRAIN = Path(__file__).with_name('train.py')


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--checkpoints',
        nargs='+',
        required=True,
        metavar='NAME=FILE',
        help="'scratch', a file, or the work dir of a run for its newest, with NAME= before it if "
        'it needs a name; nothing is downloaded',
    )
    parser.add_argument('--configs', nargs='+', required=True, help='of mmdet or mmseg')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0], help='a run for each (0)')
    parser.add_argument(
        '--work-dir', default='work_dirs/transfer', help='of all runs (default: %(default)s)'
    )
    parser.add_argument(
        '--gpus',
        type=int,
        default=1,
        help='processes of one run, by torchrun (default: %(default)s)',
    )
    parser.add_argument(
        '--jobs', type=int, default=1, help='runs at a time, for CPUs (default: %(default)s)'
    )
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


def main():
    """Trains and writes the table; a mistake ends in one line."""
    args = parse_args()
    from plrc_plugin.terminal import one_line_errors

    with one_line_errors():
        compare(args)


def compare(args):
    """Trains what is not there yet, and writes the table."""
    from plrc_plugin.errors import SettingsError
    from plrc_plugin.worth.runs import trained
    from plrc_plugin.worth.tables import draw_bars, summarise, write_csv, write_markdown

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
        options, path = args.cfg_options, checkpoints[name]
        return trained(
            TRAIN,
            config,
            work_dir / Path(config).stem / name / f'seed{seed}',
            dict(config=config, pretrained=path, seed=seed, cfg_options=options),
            [*options, f'pretrained={path}', f'randomness.seed={seed}'],
            args.gpus,
            one_thread=args.jobs > 1,
            shown=True,
        )

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
