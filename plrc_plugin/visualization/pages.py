"""Self-contained HTML pages: pictures inside, nothing fetched."""

import base64
from io import BytesIO
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image

from plrc_plugin.errors import SettingsError


def write_page(path: Path, template: str, **values) -> None:
    """Fills a template of this folder and writes it.

    Raises:
        SettingsError: if the file cannot be written.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    try:
        page = environment.get_template(template).render(values)
        Path(path).write_text(page, encoding='utf-8', errors='backslashreplace')
    except OSError as error:
        raise SettingsError(
            f'{path} cannot be written: {error.strerror}; choose another --out'
        ) from error


def base64_text(content: bytes) -> str:
    """Bytes as text for a page."""
    return base64.b64encode(content).decode()


def jpeg_address(image: np.ndarray, side: int) -> str:
    """An image (H, W, 3), made no larger than ``side``, as an address for a page."""
    picture, buffer = Image.fromarray(image), BytesIO()
    picture.thumbnail((side, side))
    picture.save(buffer, 'JPEG', quality=80)
    return f'data:image/jpeg;base64,{base64_text(buffer.getvalue())}'


def figure_address(figure: Figure, kind: str) -> str:
    """A figure as an address for a page; of kind 'svg+xml' or 'png'."""
    buffer = BytesIO()
    figure.savefig(buffer, format=kind.split('+')[0], dpi=90)
    return f'data:image/{kind};base64,{base64_text(buffer.getvalue())}'
