"""The check of a GPU: `python -m benchmarks.gpu --help`; `make gpu-check` runs it."""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Optional

from .pieces import DONE, UNFINISHED, Setting, card, in_child, is_done, read_json, run_piece
from .wheels import missing


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.gpu',
        description='Check and measure the plug-in on a GPU, piece by piece. Pieces that are done '
        'on this card with this code are passed over: give the same command again until it says '
        'that all are done.',
    )
    parser.add_argument('pieces', nargs='*', metavar='PIECE', help='by name (all, see --list)')
    parser.add_argument('--device', choices=['cuda', 'cpu'], default='cuda')
    parser.add_argument('--small', action='store_true', help='tiny sizes, to try the script')
    parser.add_argument('--minutes', type=float, default=9.5, help='for this call (9.5)')
    parser.add_argument('--out', type=Path, help='folder of the JSONs (docs/gpu; on a CPU '
                        'work_dirs/gpu-cpu); the page is written beside it')  # fmt: skip
    parser.add_argument('--work', type=Path, help='folder of runs (work_dirs/gpu)')
    parser.add_argument('--photos', type=Path, help='folder or .tar of photographs (scenes)')
    parser.add_argument('--voc', type=Path, help='folder or .tar of VOC2012, for the evidence')
    parser.add_argument('--weights', type=Path, help='EfficientNet-Lite0 that evidence continues')
    parser.add_argument('--price', type=float, default=2.5, help='dollars per GPU and hour (2.5)')
    parser.add_argument('--again', action='store_true', help='run pieces that are done once more')
    parser.add_argument('--list', action='store_true', help='name the pieces and stop')
    parser.add_argument('--missing', action='store_true', help='name missing packages and stop')
    parser.add_argument('--page', action='store_true', help='write the page and stop')
    return parser


def main() -> int:
    """0 if all is done and well, 1 if a check failed, 2 if nothing can run, 3 if time was over."""
    parser = arguments()
    args = parser.parse_args()
    lacking = missing()
    if args.missing:
        print(' '.join(lacking) or 'nothing is missing')
        return 2 if lacking else 0
    if lacking:
        print(f'missing here: {" ".join(lacking)}. Collect them where there is a network: '
              f'make gpu-wheels WHEELS="{" ".join(lacking)}"')  # fmt: skip
        return 2
    if args.device == 'cpu':
        os.environ['CUDA_VISIBLE_DEVICES'] = ''  # mmengine would take a GPU that is there

    from .catalogue import PIECES
    from .page import write_page

    if args.list:
        for name, piece in PIECES.items():
            print(f'{name:<14} {piece.title}, about {piece.seconds} s')
        return 0
    unknown = [name for name in args.pieces if name not in PIECES]
    if unknown:
        parser.error(f'there is no piece {unknown[0]}; there are {", ".join(PIECES)}')
    for path in (args.photos, args.voc, args.weights):
        if path is not None and not path.exists():
            parser.error(f'{path} does not exist')
    setting = setting_of(args)
    if args.page:
        print(write_page(setting.out, args.price))
        return 0
    if args.device == 'cuda':
        found, problem = in_child(_gpu, seconds=120)
        name, problem = found or (None, problem)
        if problem:
            print(f'{problem} --device cpu --small tries the script without one')
            return 2
        setting = setting._replace(card=name)
    return run(args, setting)


def setting_of(args: argparse.Namespace) -> Setting:
    root = Setting().work.parent
    default = Setting().out if args.device == 'cuda' and not args.small else root / 'gpu-cpu'
    work = args.work or root / ('gpu' if args.device == 'cuda' else 'gpu-cpu-runs')
    files = {
        name: getattr(args, name) and getattr(args, name).resolve()
        for name in ('photos', 'voc', 'weights')
    }
    out = (args.out or default).resolve()
    return Setting(args.device, args.small, out, work.resolve(), 60 * args.minutes, **files)


def run(args: argparse.Namespace, setting: Setting) -> int:
    from .catalogue import PIECES
    from .page import write_page

    end = time.monotonic() + setting.seconds
    left, failed = [], []
    for name in args.pieces or PIECES:
        piece = PIECES[name]
        if is_done(read_json(setting.out / f'{name}.json'), setting) and not args.again:
            continue
        if name == 'evidence' and not (args.photos or args.small or args.pieces):
            print('evidence       needs photographs: give --photos and --voc')
            continue
        seconds = end - time.monotonic()
        if seconds < min(piece.seconds, 60 if args.small else piece.seconds):
            left.append(name)
            continue
        record = run_piece(name, piece, setting._replace(seconds=seconds))
        print(f'{name:<14} {record["status"]}, {record["seconds"]:.0f} s', flush=True)
        for check in record.get('checks', []):
            if check['ok'] is False:
                allowed = f', allowed {check["allowed"]}' if 'allowed' in check else ''
                print(f'    {check["name"]}: {check["found"]}{allowed}', flush=True)
        if record['problem']:
            print(f'    {record["problem"].strip().splitlines()[-1]}', flush=True)
        if record['status'] == UNFINISHED:
            left.append(name)
        elif record['status'] != DONE:
            failed.append(name)
    print(f'page: {write_page(setting.out, args.price)}')
    if left:
        print(f'left: {", ".join(left)}. Give the same command again.')
    if failed:
        print(f'failed: {", ".join(failed)}')
    return 1 if failed else 3 if left else 0


def _gpu() -> tuple[Optional[str], str]:
    """The card's name; or why there is none."""
    import torch

    if torch.cuda.is_available():
        return card(), ''
    return None, f'PyTorch {torch.__version__} (CUDA {torch.version.cuda}) sees no GPU here.'


if __name__ == '__main__':
    sys.exit(main())
