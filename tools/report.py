"""Writes one HTML page about a run, or about several beside each other.

mim run plrc_plugin report WORK_DIR [WORK_DIR ...]
"""

import argparse
from pathlib import Path


def parse_args():
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description='Write one HTML page about a run, or several',
    )
    parser.add_argument('work_dirs', nargs='+', type=Path, metavar='WORK_DIR', help='of a run')
    parser.add_argument(
        '--images', help='folder, or shards, of images for the affinity maps (those of the run)'
    )
    parser.add_argument('--out', type=Path, help='page to write (report.html of the first run)')
    return parser.parse_args()


def main():
    """Writes the page and names it; what cannot work ends in one line, exit code 2."""
    args = parse_args()
    import plrc_plugin  # noqa: F401  registers everything, whatever the config imports
    from plrc_plugin.outputs import PAGE, check_output
    from plrc_plugin.terminal import one_line_errors
    from plrc_plugin.visualization.report import write_report

    out = args.out or args.work_dirs[0] / 'report.html'
    with one_line_errors():
        if args.out:
            check_output(out, PAGE)
        write_report(out, args.work_dirs, args.images)
        print(f'report: {out}. Open it in a browser; it needs no network.')


if __name__ == '__main__':
    main()
