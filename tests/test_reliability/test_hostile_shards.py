"""The hostile files, in shards: each is read as the file is, or refused as it is."""

import os
import tarfile
import zipfile

import numpy as np
import pytest
from hostile import make_hostile_images

from plrc_plugin.datasets.image_folder import ImageFolder
from plrc_plugin.images.decoding import DecodingError, open_image


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
    """A folder of regular files alone; a shard holds no pipe and no device."""
    folder = tmp_path_factory.mktemp('hostile') / 'images'
    made = make_hostile_images(folder)
    for name in made:
        path = os.path.join(os.fsencode(folder), os.fsencode(name))
        if os.path.isdir(path):
            os.rmdir(path)
        elif not os.path.isfile(path) or os.path.islink(path):
            os.unlink(path)
    return folder


def outcome(record):
    """The pixels, or why there are none."""
    try:
        return open_image(record).decode()
    except DecodingError as error:
        assert error.reason and '\n' not in error.reason
        return None


@pytest.mark.parametrize('kind', ['tar', 'zip', 'parquet'])
def test_every_member_is_read_or_refused_as_its_file_is(corpus, kind):
    path = f'{corpus}.{kind}'
    names = sorted(os.listdir(corpus))
    if kind == 'tar':
        with tarfile.open(path, 'w') as archive:
            archive.add(corpus, arcname='.')
    elif kind == 'zip':
        names = [name for name in names if name.isprintable()]  # others cannot be written
        with zipfile.ZipFile(path, 'w') as archive:
            for name in names:
                archive.write(corpus / name, name)
    else:
        pa = pytest.importorskip('pyarrow', reason="no pyarrow: install the extra 'parquet'")
        from pyarrow import parquet

        names = [name for name in names if name.isprintable()]
        rows = [dict(bytes=(corpus / name).read_bytes(), path=name) for name in names]
        parquet.write_table(pa.table({'image': rows}), path)
    data = ImageFolder(path)
    folder = ImageFolder(str(corpus))
    records = {r['name']: r for r in map(folder.image_record, range(len(folder)))}
    assert len(data) == len(names) > 300
    read = 0
    for index in range(len(data)):
        stored = data.image_record(index)
        one, other = outcome(records[stored['name']]), outcome(stored)
        assert (one is None) == (other is None), stored['name']
        if one is not None:
            assert np.array_equal(one, other), stored['name']
            read += 1
    assert 100 < read < len(data)
