"""The documentation site: `make docs` builds it, with warnings as errors."""

import os
import re
import shutil
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert

import plrc_plugin

ROOT = Path(__file__).resolve().parents[1]
STUDY = re.compile(r'study_(\w+)$')

project = 'plrc_plugin'
copyright = 'the authors of plrc_plugin'
release = plrc_plugin.__version__

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.autosummary',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    'sphinx_copybutton',
]
myst_enable_extensions = ['dollarmath', 'colon_fence']
myst_heading_anchors = 4
html_theme = 'furo'
html_title = 'plrc_plugin'
html_static_path = ['_static']
html_css_files = ['pages.css']
html_math_renderer = 'mathml'
exclude_patterns = ['_build']

autodoc_default_options = dict(members=True, member_order='bysource')
autodoc_typehints = 'signature'
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
# Names of other libraries and of ours in docstrings are code; they need no link of their own.
nitpicky = False
suppress_warnings = ['myst.header', 'misc.highlighting_failure', 'ref.python']


def repository_pages(app, name: str, source: list) -> None:
    """Shows pages of studies; links to files of the repository become their names."""
    folder = Path(app.srcdir, name).parent
    study = STUDY.fullmatch(name)
    if study:
        folder = ROOT / 'studies' / study[1]
        source[0] = (folder / 'README.md').read_text()

    def replaced(match: re.Match) -> str:
        opening, text, target = match.groups()
        path = (folder / target).resolve()
        if opening == '![' or not path.is_relative_to(ROOT):
            return f'{opening}{text}]({os.path.relpath(path, Path(app.srcdir, name).parent)})'
        if path.is_relative_to(app.srcdir):
            return match[0]
        place = path.relative_to(ROOT)
        if place.parts[0] == 'studies' and place.name == 'README.md':
            page = Path(app.srcdir, f'study_{place.parts[1]}.md')
            return f'[{text}]({os.path.relpath(page, Path(app.srcdir, name).parent)})'
        return text if study or text.strip('`') == str(place) else f'{text} (`{place}`)'

    link = re.compile(r'(!?\[)([^\]]*)\]\((?!\w+:|#)([^)#\s]+)[^)]*\)')
    source[0] = link.sub(replaced, source[0])
    if study:
        source[0] = re.sub(
            r'src="([^"]+)"', lambda m: f'src="_images/{Path(m[1]).name}"', source[0]
        )


def pictures_of_html(app, exception) -> None:
    """HTML of a page names its pictures itself; Sphinx copies those of Markdown alone."""
    for picture in ROOT.glob('studies/*/*.[jp][pn]g'):
        shutil.copy(picture, Path(app.outdir, '_images'))
    shutil.copytree(Path(app.srcdir, 'images'), Path(app.outdir, 'images'), dirs_exist_ok=True)


def stars(app, what, name, item, options, lines: list) -> None:
    """``*args, **kwargs`` of a docstring are no emphasis."""
    for i, line in enumerate(lines):
        lines[i] = line.replace('*args, **kwargs', r'\*args, \**kwargs')


def formula(writer, node) -> None:
    """Formulas as MathML, which browsers draw themselves: MathJax would ask the network."""
    display = not isinstance(node, nodes.math)
    mathml = convert(node.astext(), display='block' if display else 'inline')
    mathml = mathml.replace('<mi mathvariant="script">L</mi>', '<mi>\u2112</mi>')  # as browsers ask
    writer.body.append(f'<div class="math-display">{mathml}</div>' if display else mathml)
    raise nodes.SkipNode


def setup(app) -> None:
    """Called by Sphinx."""
    app.add_html_math_renderer('mathml', (formula, None), (formula, None))
    app.connect('autodoc-process-docstring', stars, priority=100)  # before napoleon reads it
    app.connect('source-read', repository_pages)
    app.connect('build-finished', pictures_of_html)
