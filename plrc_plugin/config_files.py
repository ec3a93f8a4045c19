"""Reads configs, and imports the modules that they name. A mistake in one of them becomes an error
of one line."""

import ast
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Optional, Union

from mmengine.config import Config, DictAction
from mmengine.utils import import_modules_from_strings

from plrc_plugin.errors import SettingsError

# Names of settings that hold paths, in mmengine's projects and here.
_OF_PATHS = re.compile(
    r'^(pretrained|checkpoint|root|img|path|filename|folder|load_from)$|_(root|dir|file|path|prefix)$'
)


def read_config(path: Union[str, Path], options: Optional[dict] = None) -> Config:
    """Reads a config, given its file or the work dir of a run that was started with it.

    The modules of its ``custom_imports`` are imported, so that what they register can be used.

    Args:
        path: the file or the work dir. If a work dir had several runs, the latest counts.
        options: settings that replace those of the config, as ``--cfg-options`` gives them.

    Raises:
        SettingsError: if there is no config, it cannot be read, or one of its modules cannot be
            imported.
    """
    file = config_of_work_dir(path) if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise SettingsError(f'there is no config {file}: give a config file or a work dir')
    try:
        cfg = config_from_file(file, import_custom_modules=False)
        if options:
            cfg.merge_from_dict(options)
    except SettingsError:
        raise  # the message already names the file and the line
    except Exception as error:  # a config is a program, which may raise anything
        raise SettingsError(
            f'{file} cannot be read as a config: {type(error).__name__}: '
            f'{" ".join(str(error).split())[:400]}'
        ) from error
    import_modules(**cfg.get('custom_imports', {}))
    return cfg


def config_from_file(file: Union[str, Path], **kwargs) -> Config:
    """``Config.fromfile``, with environment variables taken as they are.

    mmengine writes their values into the text of the config, where a quote would end a string and
    a backslash would begin an escape.

    Raises:
        SettingsError: if the config, or one that it is based on, is no valid Python; the message
            names that file.
    """
    try:
        with _variables_for_a_text():
            return Config.fromfile(file, **kwargs)
    except SyntaxError as error:  # mmengine's message names no file
        raise SettingsError(f'{_broken_config(Path(file)) or file}: {error.msg}') from error


def _broken_config(file: Path) -> Optional[str]:
    """The file and line of the first syntax error, in the config or in one of its ``_base_``."""
    try:
        tree = ast.parse(file.read_text(encoding='utf-8'))
    except SyntaxError as error:
        return f'{file}, line {error.lineno}'
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == '_base_':
            with suppress(ValueError, OSError):
                bases = ast.literal_eval(node.value)
                for base in [bases] if isinstance(bases, str) else bases:
                    found = _broken_config(file.parent / base)
                    if found is not None:
                        return found
    return None


def parse_options(texts: Optional[Sequence[str]]) -> dict:
    """The settings of ``--cfg-options``, each KEY=VALUE.

    Values are read as mmengine reads them, with exceptions, as mmengine splits text at commas and
    removes its spaces. A text in quotes or brackets is read as Python reads it, if it can. A path
    that exists, or whose folder exists, is one string. In a setting whose name is one for paths, a
    folder called ``2012`` or ``[1,2]`` that exists is one string too.

    Raises:
        SettingsError: if one is not KEY=VALUE, or its brackets do not match.
    """
    options = {}
    for text in texts or ():
        key, equals, value = text.partition('=')
        if not key or not equals:
            raise SettingsError(f'--cfg-options takes KEY=VALUE, got {text!r}')
        try:
            options[key] = _parse(value, key.rpartition('.')[2])
        except AssertionError as error:  # mmengine's own error for it
            raise SettingsError(f'--cfg-options {text}: {error}') from error
    return options


def _parse(value: str, name: str) -> Any:
    holds_path = _OF_PATHS.search(name) is not None
    if holds_path and value.lower() not in ('none', 'true', 'false') and os.path.lexists(value):
        return value
    if value[:1] in ('"', "'", '[', '(', '{'):
        try:
            return ast.literal_eval(value)
        except (ValueError, SyntaxError):
            return DictAction._parse_iterable(value)  # brackets around names without quotes
    if _is_a_path(value) or (' ' in value and ',' not in value):
        return value
    if ',' in value:
        try:
            return DictAction._parse_iterable(value)
        except RecursionError:  # a name before the brackets
            return value
    read = DictAction._parse_int_float_bool(value)
    return value if holds_path and type(read) in (int, float) else read


def _is_a_path(value: str) -> bool:
    if not set(value) & {' ', ',', "'", '"'}:
        return False  # mmengine reads it as one string anyway
    folder = os.path.dirname(value)
    return os.path.exists(value) or (bool(folder) and os.path.isdir(folder))


def shipped(*names: str) -> Path:
    """The path of a file or folder in ``configs`` or ``tools``. A wheel has them in the package, a
    checkout beside it."""
    package = Path(__file__).resolve().parent
    places = [package / '.mim' / Path(*names), package.parent / Path(*names)]
    return next((place for place in places if place.exists()), places[0])


@contextmanager
def _variables_for_a_text() -> Iterator[None]:
    """Environment variables with their special characters escaped, twice, because mmengine uses the
    values as templates of re.sub."""
    written = {name: ''.join(map(_in_a_text, value)) for name, value in os.environ.items()}
    kept = {name: os.environ[name] for name, text in written.items() if text != os.environ[name]}
    for name in kept:
        os.environ[name] = written[name].replace('\\', '\\\\')
    try:
        yield
    finally:
        os.environ.update(kept)


def _in_a_text(character: str) -> str:
    """A character as it is written between quotes, also where it is a byte that is no UTF-8."""
    if character in '\\\'"':
        return '\\' + character
    return character if character.isprintable() else repr(character)[1:-1]


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
        cause = error.__context__ or error  # mmengine's own message says only which module it was
        raise SettingsError(
            f'{error}: {cause}. For a module in the folder that you start from, put PYTHONPATH=. '
            'before the command'
        ) from error


def config_of_work_dir(work_dir: Union[str, Path]) -> Path:
    """The path of the config that tools/train.py or mmengine left in the work dir of a run.

    Raises:
        SettingsError: if there is none.
    """
    work_dir = Path(work_dir)
    for pattern in ('*_resolved.py', '*/vis_data/config.py'):
        found = list(work_dir.glob(pattern))
        if found:
            return max(found, key=lambda file: file.stat().st_mtime)
    raise SettingsError(
        f'{work_dir} holds no *_resolved.py: give the work dir of a run, or a config file'
    )
