"""A look before the run: what it tells, and the pictures and the page that it writes."""

import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from conftest import ROOT
from PIL import Image

from plrc_plugin.commands.inspect import main
from plrc_plugin.images.survey import describe, duplicates, survey
from plrc_plugin.randomness import SampleKey
from plrc_plugin.registry import DATASETS
from plrc_plugin.views.opening import Opener
from plrc_plugin.visualization.contact_sheet import draw_sample, draw_sheet


def look(target, out, capsys, *more):
    """What the command prints, as a dict, with its code."""
    code = main([str(target), '--out', str(out), '--workers', '0', '--seconds', '0', *more])
    lines = capsys.readouterr().out.splitlines()
    return code, {line[:12].strip(): line[13:] for line in lines}


def test_a_folder_of_photographs(image_folder, tmp_path, capsys):
    shutil.copy(image_folder / 'a.png', image_folder / 'n01' / 'again.png')
    (image_folder / 'cut.jpg').write_bytes(b'\xff\xd8\xff\xe0')
    code, told = look(image_folder, tmp_path / 'look', capsys, '--views', '3')
    assert code == 0
    assert told['images'] == '8' and told['sizes'] == '120 x 90, all of them'
    assert told['kinds'] == '7 PNG, 3 x uint8'
    assert told['unreadable'].startswith('1 of 8: ') and 'cut.jpg' in told['unreadable']
    assert told['copies'].startswith('1, byte by byte') and 'again.png' in told['copies']
    assert re.match(r'\d+\.\d images per second', told['0 workers'])
    assert 'window' not in told
    with Image.open(tmp_path / 'look' / 'inspect.png') as picture:
        assert picture.width > 3 * 250 and picture.height > 3 * 250
    page = (tmp_path / 'look' / 'inspect.html').read_text()
    assert page.count('<figure>') == 3 and page.count('data:image/jpeg;base64,') == 9
    assert 'cut.jpg' in page and 'again.png' in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page), 'nothing is fetched'


def file(path):
    """A record of one."""
    return dict(img_path=str(path))


def make_bands(folder, count=8):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        values = rng.integers(0, 4096, (70, 90, 5), dtype=np.uint16)
        tifffile.imwrite(folder / f'{i}.tif', values, photometric='minisblack',
                         planarconfig='contig')  # fmt: skip
    return folder


def test_a_folder_of_bands_gets_channels_and_a_window(tmp_path, capsys):
    _, told = look(make_bands(tmp_path / 'bands'), tmp_path, capsys, '--views', '2')
    assert told['kinds'] == '8 TIFF, 5 x uint16'
    assert told['channels'].startswith('5: set channels of TwoViews')
    assert 'percentiles 0.5 and 99.5' in told['window'] and told['window'].count(' to ') == 5
    assert 'Of 5 channels the first three' in (tmp_path / 'inspect.html').read_text()


def test_a_config_with_its_settings(image_folder, tmp_path, capsys):
    _, told = look(
        ROOT / 'configs/plrc_photos.py', tmp_path, capsys, '--views', '1', '--cfg-options',
        f'train_dataloader.dataset.data_root={image_folder}',
        'train_dataloader.dataset.indices=4',
    )  # fmt: skip
    assert told['images'] == '4'
    assert (tmp_path / 'inspect.html').read_text().count('<figure>') == 1


def test_mim_finds_it_under_a_name_that_hides_nothing():
    """tools/ may hold no inspect.py: it would be what the other tools import as Python's own."""
    assert not (ROOT / 'tools' / 'inspect.py').exists()
    found = subprocess.run(
        [sys.executable, ROOT / 'tools/inspect/inspect.py', '-h'], capture_output=True, text=True,
        cwd=ROOT,
    )  # fmt: skip
    assert found.returncode == 0 and 'contact' not in found.stderr
    assert 'usage: python -m plrc_plugin inspect' in found.stdout


@pytest.mark.faults
@pytest.mark.parametrize('target, match', [
    ('nowhere', 'does not exist'), ('empty', 'holds no image'), ('broken', 'none of the images'),
])  # fmt: skip
def test_mistakes_are_one_line(target, match, tmp_path, capsys):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'broken').mkdir()
    (tmp_path / 'broken' / 'a.jpg').write_bytes(b'no image')
    with pytest.raises(SystemExit) as end:
        main([str(tmp_path / target), '--out', str(tmp_path)])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert match in line


# ------------------------------------------------------------------ survey


def test_survey_counts(tmp_path, photo):
    Image.fromarray(photo).save(tmp_path / 'a.png')
    Image.fromarray(photo).convert('LA').resize((60, 40)).save(tmp_path / 'b.png')
    (tmp_path / 'c.png').write_bytes(b'')
    found = survey([describe(file(tmp_path / f'{name}.png')) for name in 'abc'])
    assert found.unreadable == 1 and found.channels == {3: 1, 1: 1}
    assert found.size_text() == '120 x 90 in the middle, from 60 x 40 to 120 x 90'
    assert found.kind_text() == '1 PNG, 3 x uint8, 1 PNG, 2 x uint8'


def test_what_the_header_hides_is_found_by_decoding(tmp_path, photo):
    path = tmp_path / 'a.jpg'
    Image.fromarray(photo).save(path)
    path.write_bytes(path.read_bytes()[:1200])
    assert not describe(file(path)).problem
    assert 'truncated' in describe(file(path), decode=True).problem


def test_duplicates_are_told_by_their_bytes(tmp_path):
    for name, content in dict(a=b'xx', b=b'yy', c=b'xx', d=b'', e=b'', f=b'xx').items():
        (tmp_path / name).write_bytes(content)
    files = [file(tmp_path / name) for name in [*'abcdef', 'gone']]
    assert duplicates(files) == [[str(tmp_path / name) for name in 'acf']]


# ------------------------------------------------------------------ the pictures


def test_the_frames_lie_where_the_views_are(image_folder):
    dataset = DATASETS.build(dict(
        type='plrc_plugin.ImageFolder', data_root=str(image_folder), pipeline=[
            dict(type='plrc_plugin.TwoViews', size=64, photometric=[]),
            dict(type='plrc_plugin.SampleRegionPoints', keep_region_map=True),
        ]))  # fmt: skip
    sample = dataset[SampleKey(0, 0, 0)]
    sheet = draw_sample(sample, Opener('test'), side=120)
    assert sheet.image.shape == (90, 120, 3)
    for view, colour in zip(sample['views'], ((230, 57, 70), (29, 92, 210))):
        (left, right), (top, bottom) = (
            sorted((view.affine[axis, 2], view.affine[axis].sum())) for axis in (0, 1)
        )
        rows, columns = np.nonzero((sheet.image == colour).all(2))
        assert len(rows) > 20
        near = 4  # pixels: the other frame may lie over a part of it
        assert columns.min() >= left * 120 - near and columns.max() <= right * 120 + near
        assert rows.min() >= top * 90 - near and rows.max() <= bottom * 90 + near
    assert all(view.shape == (120, 120, 3) for view in sheet.views)
    assert draw_sheet([sheet, sheet], side=120).shape[1] == 3 * 128 + 8


def test_images_in_a_shard(image_folder, tmp_path, capsys):
    import tarfile

    with tarfile.open(tmp_path / 'photos.tar', 'w') as shard:
        for path in sorted(image_folder.rglob('*.*')):
            shard.add(path, path.relative_to(image_folder))
        shard.add(image_folder / 'a.png', 'again.png')
    _, told = look(tmp_path / 'photos.tar', tmp_path, capsys, '--views', '2')
    assert told['images'] == '7' and told['kinds'] == '7 PNG, 3 x uint8'
    assert told['copies'].startswith('1, byte by byte')
    assert (tmp_path / 'inspect.html').read_text().count('<figure>') == 2
