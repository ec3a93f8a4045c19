"""``python -m plrc_plugin pretrain PHOTOS --out DIR``: pre-train on a folder of photographs.

    python -m plrc_plugin pretrain photos/ --backbone resnet50 --weights resnet50.pth --out run

It computes the recipe from the photographs (docs/recipe.md), prints it, trains, and leaves config,
log and checkpoints in DIR. Ended before its time, the same command with --resume goes on. On
several GPUs: torchrun --nproc-per-node 8 -m plrc_plugin pretrain ...
"""

import argparse
from pathlib import Path
from typing import Optional, Union

from mmengine.registry import RUNNERS

from plrc_plugin.checkpoints.claim import check_unused, checkpoints_in, folders_of
from plrc_plugin.checkpoints.mmengine_loader import read_without_running
from plrc_plugin.checkpoints.work_dir import POINTER
from plrc_plugin.config_files import parse_options
from plrc_plugin.recipe.own_config import config_of
from plrc_plugin.terminal import one_line_errors


def pretrain(
    photos: Union[str, Path],
    backbone: str = 'resnet50',
    weights: Union[str, Path, None] = None,
    out: Union[str, Path] = 'work_dirs/plrc_photos',
    hours: Optional[float] = None,
    epochs: Optional[int] = None,
    resume: bool = False,
    options: Optional[dict] = None,
) -> str:
    """Pre-trains a backbone on photographs by PLRC, with ``configs/plrc_photos.py``.

    Args:
        photos: the folder, flat or nested; or shards or an address, see docs/data.md.
        backbone: ``resnet18`` to ``resnet152``, or a model of timm or torchvision by its name.
        weights: a checkpoint of any layout of docs/weights.md to start from; None for random ones.
        out: work dir: it gets the config with all values, the log and the checkpoints.
        hours: budget of training in hours.
        epochs: or in epochs. Without either the rule of docs/recipe.md decides.
        resume: go on from the newest checkpoint of ``out``.
        options: further settings, as of ``--cfg-options``.

    Returns:
        str: the last checkpoint.

    Raises:
        SettingsError: if something cannot be used, or ``out`` holds the checkpoints of an earlier
            run and ``resume`` is False.
    """
    read_without_running()
    cfg = config_of(photos, backbone, weights, out, hours, epochs, options)
    if resume:
        cfg.resume = True
    else:
        check_unused(folders_of(cfg))
    runner = RUNNERS.build(cfg)
    runner.train()
    pointer = Path(runner.work_dir) / POINTER
    return pointer.read_text().strip() if pointer.exists() else ''


def main(arguments: list[str]) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog='python -m plrc_plugin pretrain',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('photos', help='folder of photographs, flat or nested, or shards')
    parser.add_argument(
        '--backbone',
        default='resnet50',
        help='resnet18 to resnet152, or a name of timm or torchvision (default: %(default)s)',
    )
    parser.add_argument('--weights', help='checkpoint to start from (docs/weights.md)')
    parser.add_argument('--out', required=True, help='folder for config, log and checkpoints')
    parser.add_argument('--hours', type=float, help='budget of training')
    parser.add_argument('--epochs', type=int, help='length in place of a budget (computed)')
    parser.add_argument('--resume', action='store_true', help='go on with the run in --out')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        metavar='KEY=VALUE',
        help='settings that replace those of configs/plrc_photos.py',
    )
    given = vars(parser.parse_args(arguments))
    texts = given.pop('cfg_options')
    with one_line_errors(lambda: _what_remains(given['out'])):
        pretrain(**given, options=parse_options(texts))
    return 0


def _what_remains(out: str) -> str:
    found = checkpoints_in(out)
    if found:
        return f'The newest checkpoint is {Path(out) / found[0]}: go on with --resume.'
    return 'There is no checkpoint yet: the same command starts anew.'
