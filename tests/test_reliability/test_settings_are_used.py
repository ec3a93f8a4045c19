"""No class of the package takes a setting that it does not use."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import plrc_plugin

PACKAGE = Path(plrc_plugin.__file__).parent
READ_ELSEWHERE = {'_scale_update_param', 'loss_scaler'}  # by mmengine's AmpOptimWrapper


def classes() -> list:
    return [
        pytest.param(node, id=f'{file.relative_to(PACKAGE)}:{node.name}')
        for file in sorted(PACKAGE.rglob('*.py'))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ClassDef)
    ]


def loads(node: ast.AST) -> Iterator[str]:
    """Names and attributes that are read in a piece of code."""
    for part in ast.walk(node):
        if isinstance(part, (ast.Name, ast.Attribute)) and isinstance(part.ctx, ast.Load):
            yield part.id if isinstance(part, ast.Name) else part.attr
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value  # getattr


READ = {
    name
    for folder in (PACKAGE, PACKAGE.parent / 'tools')
    for file in folder.rglob('*.py')
    for name in loads(ast.parse(file.read_text()))
}


def constructor(node: ast.ClassDef):
    return next((part for part in node.body if getattr(part, 'name', None) == '__init__'), None)


@pytest.mark.parametrize('node', classes())
def test_every_argument_is_read_and_what_keeps_it_as_well(node):
    init = constructor(node)
    if init is None:
        return
    given = init.args
    names = {a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)} - {'self'}
    names |= {a.arg for a in (given.vararg, given.kwarg) if a is not None}
    unread = {name for name in names if not name.startswith('_')} - set(loads(init))
    assert not unread, f'{node.name} takes {sorted(unread)} and does not read it'
    kept = {
        target.attr
        for statement in ast.walk(init)
        if isinstance(statement, (ast.Assign, ast.AnnAssign))
        for target in ast.walk(statement)
        if isinstance(target, ast.Attribute) and isinstance(target.ctx, ast.Store)
    }
    unread = kept - READ - READ_ELSEWHERE
    assert not unread, f'{node.name} keeps {sorted(unread)} and nothing reads it'


@pytest.mark.parametrize(
    'source',
    [
        'class A:\n    def __init__(self, size): pass',
        'class A:\n    def __init__(self, size, **kwargs): self.x_never_read = size',
    ],
)
def test_a_setting_without_a_use_is_found(source):
    with pytest.raises(AssertionError, match='size|x_never_read|kwargs'):
        test_every_argument_is_read_and_what_keeps_it_as_well(ast.parse(source).body[0])
