"""Configs and the modules that they name, read for the tools: a mistake there is one line."""

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
    """A config, by its file or by the work dir of a run that was started with it.

    The modules of its ``custom_imports`` are imported, so that what they register can be used.

    Args:
        path: the file or the work dir. Of several runs in one work dir the latest counts.
        options: settings that replace those of the config, as of ``--cfg-options``.

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
        raise  # it names the file and the line
    except Exception as error:  # a config is a program: it may raise whatever it likes
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
        SettingsError: if it, or a config that it is based on, is no Python; the file is named.
    """
    try:
        with _variables_for_a_text():
            return Config.fromfile(file, **kwargs)
    except SyntaxError as error:  # mmengine's names no file
        raise SettingsError(f'{_broken_config(Path(file)) or file}: {error.msg}') from error


def _broken_config(file: Path) -> Optional[str]:
    """The file and line of the first that is no Python: the config, or one in ``_base_`` of it."""
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

    Values are read as mmengine reads them, but for paths and quoted strings, which it would split
    at commas and rob of their spaces and quotes: a text in quotes or brackets that Python can read
    is what Python reads, and a path that exists, or whose folder exists, is one string. In a
    setting that is called as paths are, a folder ``2012`` or ``[1,2]`` that exists is one too.

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
        except AssertionError as error:  # mmengine's way to say it
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
        return False  # it is read as one string anyway
    folder = os.path.dirname(value)
    return os.path.exists(value) or (bool(folder) and os.path.isdir(folder))


def shipped(*names: str) -> Path:
    """A file or folder of ``configs`` or ``tools``: in the package of a wheel, or beside it in a
    checkout."""
    package = Path(__file__).resolve().parent
    places = [package / '.mim' / Path(*names), package.parent / Path(*names)]
    return next((place for place in places if place.exists()), places[0])


@contextmanager
def _variables_for_a_text() -> Iterator[None]:
    """Escapes what would not stand for itself, twice: mmengine's values are re.sub's templates."""
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
        cause = error.__context__ or error  # mmengine's own says only which module it was
        raise SettingsError(
            f'{error}: {cause}. For a module in the folder that you start from, put PYTHONPATH=. '
            'before the command'
        ) from error


def config_of_work_dir(work_dir: Union[str, Path]) -> Path:
    """The config that a run left in its work dir, where tools/train.py or mmengine put it.

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
