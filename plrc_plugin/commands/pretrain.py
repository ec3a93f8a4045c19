"""``python -m plrc_plugin pretrain PHOTOS --out DIR``: pre-train on a folder of photographs.

    python -m plrc_plugin pretrain photos/ --backbone resnet50 --weights resnet50.pth --out run

It computes the recipe from the photographs (docs/recipe.md), prints it, trains, and leaves config,
log and checkpoints in DIR. Ended before its time, the same command with --resume goes on. On
several GPUs: torchrun --nproc-per-node 8 -m plrc_plugin pretrain ...
"""

import argparse
import os
import re
from pathlib import Path
from typing import Optional, Union

from mmengine.config import Config
from mmengine.registry import RUNNERS

from plrc_plugin.checkpoints.claim import check_unused, checkpoints_in, folders_of
from plrc_plugin.checkpoints.mmengine_loader import read_without_running
from plrc_plugin.checkpoints.start import SCRATCH
from plrc_plugin.checkpoints.work_dir import POINTER
from plrc_plugin.config_files import read_config
from plrc_plugin.errors import SettingsError
from plrc_plugin.images.sources import is_plain
from plrc_plugin.registry import MODELS
from plrc_plugin.terminal import one_line_errors

RESOLVED = 'plrc_photos_resolved.py'


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


def config_of(photos, backbone, weights, out, hours, epochs, options=None) -> Config:
    """The config of :func:`pretrain`, with ``'auto'`` where the runner is to decide.

    Raises:
        SettingsError: if a file or folder is not there, or there is no such backbone.
    """
    photos, plain = os.fspath(photos), is_plain(os.fspath(photos))
    if plain and not os.path.isdir(photos):
        raise SettingsError(f'{photos} is not a folder of photographs')
    if weights is not None and str(weights) != SCRATCH and not Path(weights).is_file():
        raise SettingsError(f'weights: there is no file {weights}')
    if hours is not None and epochs is not None:
        raise SettingsError('hours and epochs both say how long the run is: give one')
    if Path(out).exists() and not Path(out).is_dir():
        raise SettingsError(f'out: {out} is a file: give the name of a folder')
    cfg = read_config(_configs() / 'plrc_photos.py')
    cfg.train_dataloader.dataset.data_root = str(Path(photos).resolve()) if plain else photos
    cfg.model.backbone = backbone_config(backbone)
    cfg.pretrained = str(Path(weights).resolve()) if weights not in (None, SCRATCH) else None
    cfg.budget = {k: v for k, v in (('hours', hours), ('epochs', epochs)) if v is not None}
    cfg.work_dir = str(out)
    cfg.experiment_name = Path(RESOLVED).stem.removesuffix('_resolved')
    cfg.launcher = 'pytorch' if 'TORCHELASTIC_RUN_ID' in os.environ else 'none'
    cfg.merge_from_dict(options or {})
    object.__setattr__(cfg, '_filename', RESOLVED)
    return cfg


def backbone_config(name: str) -> dict:
    """A backbone by its name; of several libraries that know it, this package comes first.

    Raises:
        SettingsError: if none knows it.
    """
    of_resnet = re.fullmatch(r'resnet(18|34|50|101|152)', name)
    if of_resnet:
        return dict(type='plrc_plugin.ResNet', depth=int(of_resnet[1]))
    fine = dict(type='plrc_plugin.TimmTrunk', name=name, output_stride=16)
    of_timm = dict(type='plrc_plugin.TimmTrunk', name=name)
    of_torchvision = dict(type='plrc_plugin.TorchvisionTrunk', name=name)
    if _problem(fine) is None:
        return fine
    first, second = _problem(of_timm), _problem(of_torchvision)
    if first is None:
        return of_timm
    if second is None:
        return of_torchvision
    raise SettingsError(f'backbone {name}: {first}; {second}')


def _problem(backbone: dict) -> Optional[str]:
    """Why a backbone cannot be built; None if it can."""
    try:
        MODELS.build(backbone)
    except Exception as error:  # whatever a library makes of a name that it does not know
        return ' '.join(str(error).split())[:200]
    return None


def _configs() -> Path:
    """The folder of the shipped configs: in the package of a wheel, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    folders = [package / '.mim' / 'configs', package.parent / 'configs']
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def main(arguments: list[str]) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog='python -m plrc_plugin pretrain',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('photos', help='folder of photographs, flat or nested, or shards')
    parser.add_argument('--backbone', default='resnet50', help='resnet50, or a name of timm')
    parser.add_argument('--weights', help='checkpoint to start from (docs/weights.md)')
    parser.add_argument('--out', required=True, help='folder for config, log and checkpoints')
    parser.add_argument('--hours', type=float, help='budget of training')
    parser.add_argument('--epochs', type=int, help='or its length')
    parser.add_argument('--resume', action='store_true', help='go on with the run in --out')
    args = parser.parse_args(arguments)
    with one_line_errors(lambda: _what_remains(args.out)):
        pretrain(**vars(args))
    return 0


def _what_remains(out: str) -> str:
    found = checkpoints_in(out)
    if found:
        return f'The newest checkpoint is {Path(out) / found[0]}: go on with --resume.'
    return 'There is no checkpoint yet: the same command starts anew.'
