"""Makes the config of pre-training on a folder of photographs from names that a user types."""

import os
import re
from pathlib import Path
from typing import Optional

from mmengine.config import Config

from plrc_plugin.checkpoints.start import SCRATCH
from plrc_plugin.config_files import read_config, shipped
from plrc_plugin.errors import SettingsError
from plrc_plugin.images.sources import is_plain
from plrc_plugin.registry import MODELS

PHOTOS = 'plrc_photos.py'


def config_of(photos, backbone, weights, out, hours, epochs, options=None, config=PHOTOS) -> Config:
    """Returns a config of pre-training on photographs, with ``'auto'`` for settings that the runner
    decides.

    The arguments are those of :func:`plrc_plugin.pretrain`; ``config`` is the file to start from,
    or the name of a shipped one.

    Raises:
        SettingsError: if a file or folder does not exist, or there is no such backbone.
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
    file = Path(config)
    cfg = read_config(file if file.is_file() else shipped('configs', config))
    cfg.train_dataloader.dataset.data_root = str(Path(photos).resolve()) if plain else photos
    cfg.model.backbone = backbone_config(backbone)
    cfg.pretrained = str(Path(weights).resolve()) if weights not in (None, SCRATCH) else None
    cfg.budget = {k: v for k, v in (('hours', hours), ('epochs', epochs)) if v is not None}
    cfg.work_dir = str(out)
    cfg.experiment_name = file.stem
    cfg.launcher = 'pytorch' if 'TORCHELASTIC_RUN_ID' in os.environ else 'none'
    cfg.merge_from_dict(options or {})
    object.__setattr__(cfg, '_filename', f'{file.stem}_resolved.py')
    return cfg


def backbone_config(name: str) -> dict:
    """Returns the config of a backbone by its name. If several libraries know the name, this
    package comes first.

    Raises:
        SettingsError: if no library knows it.
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
    """Says why a backbone cannot be built; returns None if it can."""
    try:
        MODELS.build(backbone)
    except Exception as error:  # libraries raise many kinds for names that they do not know
        return ' '.join(str(error).split())[:200]
    return None
