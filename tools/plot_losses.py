"""Draws the curves of a pre-training run: tools/plot_losses.py WORK_DIR [--out FILE]."""

import argparse
from pathlib import Path

if __name__ == '__main__':
    parser = argparse.ArgumentParser(
        description='Draw the curves of a pre-training run',
    )
    parser.add_argument('work_dir', type=Path, help='of the run')
    parser.add_argument('--out', type=Path, help='picture to write (WORK_DIR/losses.png)')
    args = parser.parse_args()
    from plrc_plugin.outputs import PICTURE, check_output
    from plrc_plugin.terminal import one_line_errors
    from plrc_plugin.visualization.curves import plot_curves

    out = args.out or args.work_dir / 'losses.png'
    with one_line_errors():
        if args.out:
            check_output(out, PICTURE)
        plot_curves(args.work_dir).savefig(out, dpi=130)
        print(f'loss curves: {out}')
