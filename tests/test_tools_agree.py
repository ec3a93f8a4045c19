"""The tools agree: the same options everywhere, help with defaults, exit code 2 for mistakes."""

import argparse
import re
import runpy
import shlex
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

from plrc_plugin.__main__ import main as command

TOOLS = sorted(path.name for path in (ROOT / 'tools').glob('*.py'))
READ_A_CONFIG = [
    'affinity_maps.py',
    'explorer.py',
    'export_checkpoint.py',
    'probe.py',
    'segment_images.py',
    'train.py',
    'transfer_table.py',
]
LOOK_AT_CHECKPOINTS = ['affinity_maps.py', 'explorer.py', 'probe.py', 'transfer_table.py']


def run(tool, monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
    runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')


def help_of(tool, monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        run(tool, monkeypatch, '--help')
    assert end.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize('tool', TOOLS)
def test_help_tells_what_each_argument_is_and_its_default(tool, monkeypatch, capsys):
    seen = []
    parse = argparse.ArgumentParser.parse_known_args

    def remember(parser, *arguments, **keywords):
        seen.append(parser)
        return parse(parser, *arguments, **keywords)

    monkeypatch.setattr(argparse.ArgumentParser, 'parse_known_args', remember)
    text = ' '.join(help_of(tool, monkeypatch, capsys).split())
    assert 'default: None' not in text and 'default: False' not in text
    for action in seen[0]._actions:
        assert action.help, f'{tool}: {action.dest} has no help'
        default = action.default
        if type(default) in (int, str) and default != argparse.SUPPRESS:
            assert f'(default: {default})' in text, f'{tool}: {action.dest}'
    if tool in READ_A_CONFIG:
        assert '--cfg-options' in text
    if tool in LOOK_AT_CHECKPOINTS:
        assert '--checkpoints' in text


@pytest.mark.parametrize(
    'tool, arguments, message',
    [
        ('affinity_maps.py', ['nowhere', 'a.png'], 'there is no config nowhere'),
        ('explorer.py', ['nowhere'], 'there is no config nowhere'),
        ('probe.py', ['nowhere'], 'there is no config nowhere'),
        ('segment_images.py', ['nowhere'], 'there is no config nowhere'),
        ('train.py', ['nowhere'], "config 'nowhere' does not exist"),
        ('train.py', ['.'], 'holds no *_resolved.py'),
        ('report.py', ['nowhere'], 'holds no <time>/vis_data/scalars.json'),
        ('plot_losses.py', ['nowhere'], 'holds no <time>/vis_data/scalars.json'),
        ('export_checkpoint.py', ['nowhere', 'a.pth', '--to', 'mmdet'], 'no checkpoint at nowhere'),
        ('export_checkpoint.py', ['.', 'a.pth', '--to', 'mmdet'], 'no checkpoint at .'),
        (
            'transfer_table.py',
            ['--checkpoints', 'nowhere.pth', '--configs', ROOT / 'configs/plrc_in1k.py'],
            'no file nowhere.pth',
        ),
        (
            'transfer_table.py',
            ['--checkpoints', 'scratch', '--configs', 'no.py'],
            'no config no.py',
        ),
        (
            'transfer_table.py',
            ['--checkpoints', '.', '--configs', ROOT / 'setup.py'],
            'checkpoint at .',
        ),
        ('ablations.py', ['9z'], 'choose from'),
        ('make_scenes.py', ['/proc/scenes'], 'cannot write the scenes'),
    ],
)
def test_a_mistake_is_exit_code_2_and_one_last_line(
    tool, arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        run(tool, monkeypatch, *arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


def test_the_command_of_photographs_takes_options_of_the_config(tmp_path, capsys):
    (tmp_path / 'photos').mkdir()
    given = f'pretrain {tmp_path}/photos --out {tmp_path}/out --cfg-options no_value'
    with pytest.raises(SystemExit) as end:
        command(given.split())
    assert end.value.code == 2
    assert '--cfg-options takes KEY=VALUE' in capsys.readouterr().err.strip().splitlines()[-1]


def test_training_goes_on_in_a_work_dir_that_is_all_it_is_given(tmp_path):
    (tmp_path / 'my_run_resolved.py').write_text("work_dir = 'elsewhere'\nx = 1\n")
    load = runpy.run_path(str(ROOT / 'tools/train.py'))['load_config']
    given = dict(config=str(tmp_path), work_dir=None, cfg_options=['x=2'], launcher='none')
    given.update(amp=False, auto_scale_lr=False, overwrite=False, resume='auto')
    cfg = load(argparse.Namespace(**given))
    assert (cfg.work_dir, cfg.x, cfg.resume) == (str(tmp_path), 2, True)
    assert cfg.filename == 'my_run_resolved.py'  # its config keeps the name that it has


@pytest.mark.skipif(shutil.which('make') is None, reason='no make')
def test_make_demo_ends_with_report_and_explorer(monkeypatch, capsys):
    done = subprocess.run(
        ['make', '-n', '-s', 'demo'], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = done.stdout.replace('\\\n', ' ').splitlines()
    tools = [line for line in lines if re.search(r'tools/\w+\.py (data|work_dirs)', line)]
    names = [re.search(r'tools/(\w+\.py)', line)[1] for line in tools]
    assert names == ['make_scenes.py', 'affinity_maps.py', 'probe.py', 'report.py', 'explorer.py']
    assert any('mim train' in line and '--resume' in line for line in lines)  # a second one goes on
    for line, name in zip(tools, names):
        text = help_of(name, monkeypatch, capsys)
        options = [word for word in shlex.split(line) if word.startswith('--')]
        assert all(option in text for option in options), (line, options)
    assert 'next:' in done.stdout and 'report.html' in done.stdout
