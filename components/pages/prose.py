"""A document that is written once and read as Markdown and as HTML.

Text is plain: whatever it holds is shown as it is. `Code` and `Strong` mark a piece of it.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from components.base.errors import printable

# What has a meaning within a line of Markdown (CommonMark 0.31, and the tables of GitHub).
_SPECIAL = re.compile(r"([\\`*_\[\]<>|~]|&(?=#?\w+;))")


class Code(str):
    """A piece of text in the letters of code: a digest, a file, a name in params.yaml."""

    __slots__ = ()


class Strong(str):
    """A piece of text that stands out."""

    __slots__ = ()


Text = str | Sequence[str]
"""A text, or its pieces one after the other."""


class Heading(NamedTuple):
    """Begins a section."""

    text: Text
    level: int = 2


class Paragraph(NamedTuple):
    """Sentences."""

    text: Text


class Note(NamedTuple):
    """Sentences that nobody should miss."""

    text: Text


class Bullets(NamedTuple):
    """A list without numbers."""

    items: Sequence[Text]


class Table(NamedTuple):
    """Rows under a head. The first cell of a row names it."""

    head: Sequence[Text]
    rows: Sequence[Sequence[Text]]
    caption: Text


class Chart(NamedTuple):
    """A picture. Markdown does without."""

    image: Markup
    caption: Text


Block = Heading | Paragraph | Note | Bullets | Table | Chart


def markdown(blocks: Sequence[Block]) -> str:
    """The document as Markdown, with a line for each paragraph."""
    written = (_markdown(block) for block in blocks)
    return "\n\n".join(each for each in written if each) + "\n"


def html(blocks: Sequence[Block]) -> Markup:
    """The document as HTML, for the body of a page."""
    return Markup("\n").join(_html(block) for block in blocks)


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {_line(text)}"
        case Paragraph(text):
            return _line(text)
        case Note(text):
            return f"> {_line(text)}"
        case Bullets(items):
            return "\n".join(f"- {_line(item)}" for item in items)
        case Table(head, rows, caption):
            lines = [head, *rows]
            cells = ["| " + " | ".join(_line(cell, in_table=True) for cell in line) + " |" for line in lines]
            return "\n".join([f"{_line(caption)}\n", cells[0], "|" + " --- |" * len(head), *cells[1:]])
        case Chart():
            return ""


def _html(block: Block) -> Markup:
    match block:
        case Heading(text, level):
            return Markup("<h{0}>{1}</h{0}>").format(level, _markup(text))
        case Paragraph(text):
            return Markup("<p>{}</p>").format(_markup(text))
        case Note(text):
            return Markup('<p class="note">{}</p>').format(_markup(text))
        case Bullets(items):
            listed = Markup("\n").join(Markup("<li>{}</li>").format(_markup(item)) for item in items)
            return Markup("<ul>\n{}\n</ul>").format(listed)
        case Table(head, rows, caption):
            titles = Markup("").join(Markup('<th scope="col">{}</th>').format(_markup(cell)) for cell in head)
            lines = Markup("\n").join(_row(row) for row in rows)
            inner = Markup("<thead><tr>{}</tr></thead>\n<tbody>\n{}\n</tbody>").format(titles, lines)
            # A caption of its own would be as narrow as the table, and scroll with it.
            above = Markup('<p class="soft">{}</p>\n').format(_markup(caption))
            return above + Markup('<div class="scroll"><table>\n{}</table></div>').format(inner)
        case Chart(image, caption):
            return Markup("<figure>{}<figcaption>{}</figcaption></figure>").format(image, _markup(caption))


def _row(cells: Sequence[Text]) -> Markup:
    first, *others = map(_markup, cells)
    rest = Markup("").join(Markup("<td>{}</td>").format(cell) for cell in others)
    return Markup('<tr><th scope="row">{}</th>{}</tr>').format(first, rest)


def _pieces(text: Text) -> Sequence[str]:
    return (text,) if isinstance(text, str) else text


def _line(text: Text, in_table: bool = False) -> str:
    """A line of Markdown, or a cell."""
    return "".join(_marked(piece, in_table) for piece in _pieces(text))


def _marked(piece: str, in_table: bool) -> str:
    shown = printable(piece)
    if isinstance(piece, Code):
        # A fence is longer than what looks like one in it.
        fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
        space = " " if shown[:1] == "`" or shown[-1:] == "`" else ""
        fenced = f"{fence}{space}{shown}{space}{fence}"
        # In a table, a bar ends a cell in code, too.
        return fenced.replace("|", "\\|") if in_table else fenced
    plain = _SPECIAL.sub(r"\\\1", shown)
    return f"**{plain}**" if isinstance(piece, Strong) else plain


def _markup(text: Text) -> Markup:
    return Markup("").join(_element(piece) for piece in _pieces(text))


def _element(piece: str) -> Markup:
    shown = escape(printable(piece))
    if isinstance(piece, Code):
        return Markup("<code>{}</code>").format(shown)
    return Markup("<b>{}</b>").format(shown) if isinstance(piece, Strong) else shown
