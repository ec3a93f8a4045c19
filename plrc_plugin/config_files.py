"""Configs and the modules that they name, read for the tools: a mistake there is one line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Optional, Union

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from plrc_plugin.errors import SettingsError


def read_config(path: Union[str, Path], options: Optional[dict] = None) -> Config:
    """A config, by its file or by the work dir of a run that was started with it.

    The modules of its ``custom_imports`` are imported, so that what they register can be used.

    Args:
        path: the file or the work dir. Of several runs in one work dir the latest counts.
        options: settings that replace those of the config, as of ``--cfg-options``.

    Raises:
        SettingsError: if there is no config, it cannot be read, or one of its modules cannot be
            imported.
    """
    file = _config_of(Path(path)) if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise SettingsError(f'there is no config {file}: give a config file or a work dir')
    try:
        cfg = Config.fromfile(file, import_custom_modules=False)
        if options:
            cfg.merge_from_dict(options)
    except Exception as error:  # a config is a program: it may raise whatever it likes
        raise SettingsError(
            f'{file} cannot be read as a config: {type(error).__name__}: '
            f'{" ".join(str(error).split())[:400]}'
        ) from error
    import_modules(**cfg.get('custom_imports', {}))
    return cfg


def import_modules(
    imports: Union[str, Sequence[str]] = (), allow_failed_imports: bool = False
) -> None:
    """Imports modules, so that what they register can be named.

    Raises:
        SettingsError: if one cannot be imported.
    """
    names = [imports] if isinstance(imports, str) else list(imports)
    try:
        import_modules_from_strings(names, allow_failed_imports)
    except ImportError as error:
        cause = error.__context__ or error  # mmengine's own says only which module it was
        raise SettingsError(
            f'{error}: {cause}. For a module in the folder that you start from, put PYTHONPATH=. '
            'before the command'
        ) from error


def _config_of(work_dir: Path) -> Path:
    """The config that a run left in its work dir, where tools/train.py or mmengine put it."""
    for pattern in ('*_resolved.py', '*/vis_data/config.py'):
        found = list(work_dir.glob(pattern))
        if found:
            return max(found, key=lambda file: file.stat().st_mtime)
    raise SettingsError(
        f'{work_dir} holds no *_resolved.py: give the work dir of a run, or a config file'
    )
