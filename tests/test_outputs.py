"""Tools write over nothing that they did not make."""

import runpy
import sys

import pytest
from conftest import ROOT

from plrc_plugin.errors import SettingsError
from plrc_plugin.outputs import PAGE, PICTURE, check_output


def test_a_file_of_somebody_else_stays(tmp_path):
    mine = tmp_path / 'index.html'
    mine.write_text('<html>my own page about plrc_plugin</html>')
    with pytest.raises(SettingsError, match='index.html exists and was not made by this tool'):
        check_output(mine, PAGE)
    with pytest.raises(SettingsError, match='exists: give another name, or --overwrite'):
        check_output(mine)
    check_output(mine, overwrite=True)
    check_output(tmp_path / 'new.html', PAGE)


def test_a_page_and_a_picture_of_our_own_are_written_anew(tmp_path):
    for name in ('report', 'explorer'):
        page = ROOT / 'plrc_plugin' / 'visualization' / f'{name}.html'
        check_output(page, PAGE)
    from matplotlib.figure import Figure

    for kind in ('png', 'pdf'):
        Figure().savefig(tmp_path / f'a.{kind}')
        check_output(tmp_path / f'a.{kind}', PICTURE)


@pytest.mark.parametrize('path, message', [('no/a.html', 'no folder'), ('.', 'is a folder')])
def test_places_where_no_file_can_be(path, message, tmp_path):
    with pytest.raises(SettingsError, match=message):
        check_output(tmp_path / path, PAGE)


def export(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', ['export_checkpoint.py', *map(str, arguments)])
    runpy.run_path(str(ROOT / 'tools' / 'export_checkpoint.py'), run_name='__main__')


def test_an_exported_trunk_replaces_a_file_only_if_asked(
    plrc_checkpoint, tmp_path, monkeypatch, capsys
):
    out = tmp_path / 'trunk.pth'
    export(monkeypatch, plrc_checkpoint, out, '--to', 'mmdet')
    out.write_bytes(b'mine')
    with pytest.raises(SystemExit, match='2'):
        export(monkeypatch, plrc_checkpoint, out, '--to', 'mmdet')
    assert out.read_bytes() == b'mine' and '--overwrite' in capsys.readouterr().err
    export(monkeypatch, plrc_checkpoint, out, '--to', 'mmdet', '--overwrite')
    assert out.read_bytes() != b'mine'
    before = plrc_checkpoint.read_bytes()
    with pytest.raises(SystemExit, match='2'):
        export(monkeypatch, plrc_checkpoint, plrc_checkpoint, '--to', 'mmdet', '--overwrite')
    assert plrc_checkpoint.read_bytes() == before


@pytest.mark.parametrize(
    'tool, arguments',
    [
        ('report.py', ['run']),
        ('plot_losses.py', ['run']),
        ('explorer.py', ['config.py', 'images', '--checkpoints', 'random']),
        ('probe.py', ['config.py']),
    ],
)
def test_every_tool_looks_before_it_works(tool, arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mine').write_text('mine')
    monkeypatch.setattr(sys, 'argv', [tool, *arguments, '--out', 'mine'])
    with pytest.raises(SystemExit, match='2'):
        runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')
    assert 'mine exists and was not made by this tool' in capsys.readouterr().err
    assert (tmp_path / 'mine').read_text() == 'mine'
