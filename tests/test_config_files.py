"""Settings arrive as they were meant, whatever characters are in them."""

import os

import pytest
from mmengine.config import Config

from plrc_plugin.config_files import config_from_file, parse_options, read_config
from plrc_plugin.errors import SettingsError

ODD = [
    'my photographs',
    'a,b',
    "Anna's",
    'C:\\new\\table',
    '"quoted"',
    'both \' and "',
    'ends with \\',
    'a\\g<0>b\\1',
    'brackets (2) [x]',
    'a=b 100% #1 {x} $HOME *?',
    '-leads with a dash',
    '~',
    'ends with spaces  ',
    'two\nlines',
    os.fsdecode(b'caf\xe9'),  # as older systems write it: no UTF-8
    'x' * 200,
    '[1,2]',
    '"',
]


@pytest.mark.parametrize('name', ODD)
def test_a_variable_stands_for_itself(name, tmp_path, monkeypatch):
    (tmp_path / 'base.py').write_text("root = '{{$ODD_ROOT:data}}'\n")
    config = tmp_path / 'config.py'
    config.write_text('_base_ = \'./base.py\'\nlist = "{{$ODD_ROOT:data}}/list.txt"\n')
    monkeypatch.setenv('ODD_ROOT', name)
    cfg = config_from_file(config)
    assert cfg.root == name and cfg.list == f'{name}/list.txt'
    assert os.environ['ODD_ROOT'] == name
    cfg.dump(tmp_path / 'resolved.py')  # what a run leaves behind, and resumes from
    assert read_config(tmp_path / 'resolved.py').root == name


@pytest.mark.parametrize('name', ODD)
def test_a_path_that_is_there_is_one_string(name, tmp_path):
    there = tmp_path / name
    there.mkdir()
    assert parse_options([f'a.b={there}']) == {'a.b': str(there)}
    new = there / 'x, y.pth'  # to be written
    assert parse_options([f'out={new}']) == {'out': str(new)}


@pytest.mark.parametrize(
    'text, value',
    [
        ('1', 1),
        ('1e-3', 1e-3),
        ('true', True),
        ('None', None),
        ('SGD', 'SGD'),
        ('1,2', [1, 2]),
        ('[1,2]', [1, 2]),
        ('(1,2)', (1, 2)),
        ('[(a,b),c]', [('a', 'b'), 'c']),
        ("['my photographs','a,b']", ['my photographs', 'a,b']),
        ("{'type':'SGD','lr':.1}", dict(type='SGD', lr=0.1)),
        ('"my, photographs"', 'my, photographs'),
        ('no such folder', 'no such folder'),
        ('/no/x.pth,/no/y.pth', ['/no/x.pth', '/no/y.pth']),
        ('/no/such/[1,2]', '/no/such/[1,2]'),
        ("/no/such/'x'", "/no/such/'x'"),
        ('a=b', 'a=b'),
        ('', ''),
    ],
)
def test_values(text, value):
    assert parse_options([f'key={text}']) == dict(key=value)
    assert type(parse_options([f'key={text}'])['key']) is type(value)


@pytest.mark.parametrize('name', ['2012', '1e3', '[1,2]', "'x'"])
def test_in_a_setting_of_paths_what_is_there_is_a_path(name, tmp_path, monkeypatch):
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    assert parse_options([f'dataset.data_root={name}']) == {'dataset.data_root': name}
    assert parse_options([f'optimizer.lr={name}']) != {'optimizer.lr': name}
    assert parse_options(['load_from=None', 'data_root=2013']) == dict(
        load_from=None, data_root='2013'
    )


@pytest.mark.parametrize('text, said', [('lr', 'KEY=VALUE'), ('=3', 'KEY'), ('a=(1,2', 'brackets')])
def test_what_is_no_setting(text, said):
    with pytest.raises(SettingsError, match=said):
        parse_options([text])


def test_mmengine_takes_the_settings():
    cfg = Config(dict(optimizer=dict(lr=1.0, betas=[0, 1])))
    cfg.merge_from_dict(parse_options(['optimizer.lr=2', 'optimizer.betas=(3,4)']))
    assert cfg.optimizer == dict(lr=2, betas=(3, 4))


def test_a_config_that_is_no_python_is_named_with_its_line(tmp_path):
    """Also where it is one that the config is based on."""
    (tmp_path / 'broken.py').write_text('a = 1\nb = (\n')
    (tmp_path / 'mine.py').write_text("_base_ = ['./broken.py']\n")
    for name in ('broken.py', 'mine.py'):
        with pytest.raises(SettingsError, match=r'broken.py, line 2: .* never closed'):
            config_from_file(tmp_path / name)
