"""A document says the same as Markdown and as HTML, whatever stands in it."""

import re

import pytest
from html_page import Page
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markupsafe import Markup

from components.pages.prose import (
    Bullets,
    Chart,
    Code,
    Heading,
    Note,
    Paragraph,
    Strong,
    Table,
    html,
    markdown,
)

READER = MarkdownIt("commonmark", {"html": True}).enable("table")
ODD = (
    "a|b", "`x`", "``", "**no**", "_a_b_", "<script>alert(1)</script>", "&amp;", "[a](b)", "~~gone~~", "a\nb", "\\|",
    "\x1b[2J", "\u202eback", "x`", "![i](u)", "*", "https://example.org",
)  # fmt: skip


def words(text):
    return Page(text).words


def document(text):
    """Every kind of block, with a text in all places."""
    pieces = ["Here ", Code(text), " and ", Strong(text), f" and {text}."]
    return [
        Heading(f"The {text} head", 1),
        Paragraph(pieces),
        Note(pieces),
        Bullets([pieces, f"An item, {text}"]),
        Table(("Name", f"Of {text}"), [(Code(text), pieces), (f"x {text} y", "plain")], f"A table of {text}."),
        Heading(["Of ", Code(text), " end"], 3),
    ]


@pytest.mark.parametrize("text", ODD)
def test_markdown_is_read_as_html_says_it(text):
    written = document(text)
    read = READER.render(markdown(written))
    assert words(read) == words(str(html(written)))
    assert not {"script", "img", "a"} & set(Page(read).tags)
    assert not {"script", "img", "a"} & set(Page(str(html(written))).tags)


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12))
def test_any_text_is_shown_as_it_is(text):
    text = text.strip() or "x"
    written = [Paragraph(["a ", Code(text), " b ", text, " c"]), Table(("a", "b"), [(Code(text), f"- {text}")], "d")]
    read = READER.render(markdown(written))
    assert words(read) == words(str(html(written)))
    assert Page(read).tags.count("td") == 2


def test_each_block_has_its_form():
    written = markdown(document("it"))
    assert written.startswith("# The it head\n\nHere `it` and **it** and it.\n\n> Here")
    assert "\n- Here `it`" in written
    assert re.search(r"\n\nA table of it\.\n\n\| Name \| Of it \|\n\| --- \| --- \|\n\| `it` \| Here", written)
    assert written.endswith("### Of `it` end\n")
    tags = Page(READER.render(written)).tags
    assert [tags.count(tag) for tag in ("h1", "h3", "blockquote", "li", "table", "tr", "th")] == [1, 1, 1, 2, 1, 3, 2]


def test_a_chart_is_on_the_page_alone():
    chart = Chart(Markup('<img src="data:image/png;base64,x" alt="y">'), "What & how")
    assert markdown([Paragraph("a"), chart, Paragraph("b")]) == "a\n\nb\n"
    assert "<figcaption>What &amp; how</figcaption>" in html([chart])
