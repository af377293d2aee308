"""Fill templates."""

import base64
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup

from components.base.progress import duration
from components.base.words import count, in_words

# Charts have 144 pixels to the inch, CSS has 96.
PIXELS_PER_CSS_PIXEL = 1.5


def render(template: Path, **values: object) -> str:
    """Fill a template. Everything that is not markup is escaped.

    Args:
        template: the file. It may include files of its own directory and of this one.
        values: the template's variables.

    Returns:
        HTML.
    """
    return _environment(template.parent).get_template(template.name).render(**values)


def picture(png: bytes, description: str) -> Markup:
    """An `<img>` that carries its PNG.

    Args:
        png: the file's bytes.
        description: of what it shows, for people who cannot see it.
    """
    # IHDR is always first: 8 bytes of signature, 8 of chunk header, then width and height.
    width, height = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
    return _image(png, round(width / PIXELS_PER_CSS_PIXEL), round(height / PIXELS_PER_CSS_PIXEL), description)


def square_picture(png: bytes, description: str, side: int) -> Markup:
    """An `<img>` that carries its PNG, shown as a square of so many CSS pixels on a side."""
    return _image(png, side, side, description)


def _image(png: bytes, width: int, height: int, description: str) -> Markup:
    return Markup('<img src="data:image/png;base64,{}" width="{}" height="{}" alt="{}">').format(
        base64.b64encode(png).decode(), width, height, description
    )


@cache
def _environment(folder: Path) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = duration
    environment.filters["count"] = count
    environment.filters["words"] = in_words
    return environment
