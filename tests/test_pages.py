"""Pages do what they say: code runs, configs are read, commands have the options that are given.

Each block of Python stands under a mark: ``<!-- run -->`` and ``<!-- config -->`` are held to here,
``<!-- not run: why -->`` says what holds it instead.
"""

import contextlib
import io
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT
from runs import make_images

from plrc_plugin.config_files import read_config
from plrc_plugin.engine.options import check_options

PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
RUN = re.compile(r'<!-- run -->\n```python\n(.*?)```', re.S)
PYTHON = re.compile(r'^([^\n]*)\n```python\n(.*?)```', re.S | re.M)
SHELL = re.compile(r'```(?:sh|bash)\n(.*?)```', re.S)


@pytest.mark.parametrize(
    'page', [p for p in PAGES if RUN.search(p.read_text())], ids=lambda p: p.name
)
def test_the_blocks_of_a_page_run_one_after_the_other(page, tmp_path, monkeypatch):
    make_images(tmp_path / 'photos', count=8)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in RUN.findall(page.read_text()):
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(block, str(page), 'exec'), names)


def python_blocks():
    """(page, line above the block, block) of all pages whose blocks no other test takes whole."""
    others = ('equations.md', 'extending.md')  # test_docs.py, test_extending.py
    for page in PAGES:
        if page.name not in others:
            for above, block in PYTHON.findall(page.read_text()):
                yield pytest.param(page, above, block, id=f'{page.name}: {block[:40].strip()!r}')


@pytest.mark.parametrize('page, above, block', list(python_blocks()))
def test_every_block_of_python_is_run_or_says_why_not(page, above, block):
    assert re.fullmatch(r'<!-- (run|config|not run: .{15,}) -->', above), (
        f'{page.name}: put <!-- run -->, <!-- config --> or <!-- not run: why --> above\n{block}'
    )
    for path in re.findall(r'\b(?:tests|configs|docs)/[\w./-]*\w', above):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize(
    'page, block',
    [
        pytest.param(*[p.values[i] for i in (0, 2)], id=p.id)
        for p in python_blocks()
        if p.values[1] == '<!-- config -->'
    ],
)
def test_a_config_of_a_page_is_read_and_has_known_options(page, block, tmp_path):
    shutil.copytree(ROOT / 'configs', tmp_path / 'configs')
    base = '' if '_base_ =' in block else "_base_ = 'plrc_in1k.py'\n"
    (tmp_path / 'configs/block.py').write_text(base + block)
    check_options(read_config(tmp_path / 'configs/block.py'))


def commands():
    """The commands of all pages that start a tool or a config of the project."""
    for page in PAGES:
        for block in SHELL.findall(page.read_text()):
            for line in block.replace('\\\n', ' ').splitlines():
                with contextlib.suppress(ValueError):
                    words = shlex.split(line, comments=True)
                    tool = tool_of(words)
                    if tool:
                        yield pytest.param(tool, words, id=f'{page.name}: {line.strip()[:70]}')


def tool_of(words):
    """The words with which a tool is started, or None: ('tools/x.py',) or ('-m', 'plrc_plugin')."""
    for i, word in enumerate(words):
        if word.startswith('tools/') and word.endswith('.py'):
            return (word,)
        if word == 'mim' and words[i + 1 : i + 3] == ['run', 'plrc_plugin']:
            return (f'tools/{words[i + 3]}.py',)
        if word == 'mim' and words[i + 1] == 'train':
            return ('tools/train.py',)
        if words[i : i + 2] == ['-m', 'plrc_plugin']:
            return ('-m', 'plrc_plugin', words[i + 2])
    return None


@cache
def help_of(tool):
    done = subprocess.run(
        [sys.executable, *tool, '--help'], capture_output=True, text=True, cwd=ROOT, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# Of torchrun, Slurm and mim, which stand before the tool's own.
OF_LAUNCHERS = re.compile(
    r'--(nnodes|nproc.per.node|max-restarts|rdzv-\w+|standalone|gpus|partition)'
)


@pytest.mark.parametrize('tool, words', list(commands()))
def test_a_command_has_the_options_that_it_is_given(tool, words):
    known = help_of(tool)
    for word in words:
        option = word.partition('=')[0]
        if option.startswith('--') and not OF_LAUNCHERS.match(option):
            assert re.search(rf'(?<![\w-]){option}(?![\w-])', known), f'{tool} has no {option}'
        if word.startswith('configs/') and word.endswith('.py') and 'my_' not in word:
            assert Path(ROOT, word).is_file(), f'there is no {word}'


# Programs of others, and why no test starts them.
OTHERS = {
    'pip': 'it installs',
    'export': 'it sets a variable for the command that follows',
    'tensorboard': 'it serves a page until it is ended',
}


def lines_of_shell():
    for page in PAGES:
        for block in SHELL.findall(page.read_text()):
            for line in block.replace('\\\n', ' ').splitlines():
                words = [w for w in shlex.split(line, comments=True) if not re.match(r'\w+=', w)]
                if words and tool_of(words) is None:
                    yield pytest.param(page, words, id=f'{page.name}: {line.strip()[:70]}')


@pytest.mark.parametrize('page, words', list(lines_of_shell()))
def test_other_lines_of_shell_are_targets_modules_or_programs_of_others(page, words):
    """Those that start a tool are held to its options above."""
    makefile = (ROOT / 'Makefile').read_text()
    if words[0] == 'make':
        assert re.search(rf'^{words[1]}:', makefile, re.M), f'{page.name}: make {words[1]}'
    elif words[:3] == ['python', '-m', 'pip']:
        pass  # as pip
    elif words[:2] == ['python', '-m']:
        module = ROOT / words[2].replace('.', '/')
        assert module.is_dir() or module.with_suffix('.py').is_file(), words[2]
    else:
        assert words[0] in OTHERS or words[0] == '--cfg-options', (page.name, words)
