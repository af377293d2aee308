"""Templates are filled safely."""

import io
from pathlib import Path

import jinja2
import pytest
from PIL import Image

from components.pages.render import picture, render


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A step's template: `{{ value }}` and `{{ seconds|duration }}` in the frame of all pages."""
    path = tmp_path / "report.html"
    body = "{{ value }} in {{ seconds|duration }}"
    path.write_text(f'{{% extends "base.html" %}}{{% block body %}}{body}{{% endblock %}}')
    return path


def test_a_template_is_filled_within_the_frame_of_all_pages(template: Path) -> None:
    html = render(template, value="done", seconds=200)
    assert html.startswith("<!doctype html>")
    assert "done in 3 min 20 s" in html


def test_values_are_escaped_and_pictures_are_not(template: Path) -> None:
    assert "&lt;script&gt;" in render(template, value="<script>", seconds=0)
    file = io.BytesIO()
    Image.new("L", (300, 150)).save(file, "PNG")
    html = render(template, value=picture(file.getvalue(), 'a "grey" box'), seconds=0)
    assert '<img src="data:image/png;base64,' in html
    # A page shows 144 pixels of a chart on 96 of its own.
    assert 'width="200" height="100" alt="a &#34;grey&#34; box">' in html


def test_a_value_that_is_missing_is_an_error(template: Path) -> None:
    with pytest.raises(jinja2.UndefinedError, match="value"):
        render(template, seconds=0)
