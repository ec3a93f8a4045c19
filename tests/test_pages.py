"""Pages do what they say: code runs, and commands have the options that they are given."""

import contextlib
import io
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT
from runs import make_images

PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
RUN = re.compile(r'<!-- run -->\n```python\n(.*?)```', re.S)
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
        [sys.executable, *tool, '--help'], capture_output=True, text=True, cwd=ROOT, timeout=120
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
