"""The record of how the images of a run were read, kept with the run and with its exports."""

import json
import os
from pathlib import Path
from typing import Any, Optional, Union

from plrc_plugin.checkpoints.safe_reading import load_tensors
from plrc_plugin.errors import SettingsError
from plrc_plugin.images.rasters.scaling import Reading

RECORD = 'reading.json'
META_KEY = 'reading'


def record_of(reading: Reading, how: str = '') -> dict:
    """Returns the record for JSON: the reading, and in words how it was found."""
    window = [list(pair) for pair in reading.windows or ()]
    return dict(channels=reading.channels, window=window, how=how)


def write_record(path: Union[str, Path], record: dict) -> None:
    """Writes a record into the work dir or beside an exported file; :func:`find_record` finds
    it."""
    path = Path(path)
    path = path / RECORD if path.is_dir() else Path(f'{path}.{RECORD}')
    path.write_text(json.dumps(record, indent=1) + '\n')


def find_record(path: Union[str, Path]) -> Optional[dict]:
    """Returns the record of a work dir, a checkpoint or an exported file, or None if it has none.

    Raises:
        SettingsError: if it is damaged.
    """
    path = Path(path)
    if path.is_dir():
        return _read(path / RECORD)
    if path.suffix == '.json':
        return _read(path)
    beside = _read(Path(f'{path}.{RECORD}'))
    if beside is not None or not path.is_file():
        return beside
    if path.suffix in ('.pth', '.pt'):
        meta = load_tensors(os.fspath(path)).get('meta')
        if isinstance(meta, dict) and META_KEY in meta:
            return meta[META_KEY]
    return _read(path.parent / RECORD)


def reading_of(owner: str, path: Union[str, Path]) -> Reading:
    """The reading of a run.

    Raises:
        SettingsError: if there is none.
    """
    record = find_record(path)
    if record is None:
        raise SettingsError(
            f'{owner}: {path} tells nothing of channels and window: give the work dir of a run '
            'with channels= in its pipeline, one of its checkpoints, or what was exported from it'
        )
    return Reading.of(owner, record['channels'], record['window'])


def _read(path: Path) -> Optional[dict[str, Any]]:
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text())
        Reading.of(str(path), record['channels'], record['window'])
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(f'{path} is damaged ({" ".join(str(error).split())}): remove it, or '
                            'take it from a copy of the run') from error  # fmt: skip
    return record
