"""Self-contained HTML pages: pictures inside, nothing fetched."""
import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from plrc_plugin.errors import SettingsError


def write_page(path: Path, template: str, **values) -> None:
    """Fills a template of this folder and writes it.

    Raises:
        SettingsError: if the file cannot be written.
    """
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True,
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    try:
        Path(path).write_text(environment.get_template(template).render(values), encoding='utf-8')
    except OSError as error:
        raise SettingsError(f'{path} cannot be written: {error.strerror}; choose another --out'
                            ) from error


def base64_text(content: bytes) -> str:
    """Bytes as text for a page."""
    return base64.b64encode(content).decode()
