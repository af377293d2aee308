"""What was asked: studies and their views, from a form."""

import re
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from components.base.names import LONGEST, PATTERN
from components.base.words import count

MAX_VIEW_BYTES = 64_000_000
"""Of one file. Archives have the same limit."""
MAX_VIEWS = 32
"""Of one request. Studies of MURA have up to 14."""
VIEW, PART, PARTIAL, PICTURES = "view", "part", "partial", "pictures"
"""Fields of the form."""
FORM = "multipart/form-data"


class Refusal(Exception):
    """A request that is not answered: status and reason, without a value of what was sent."""

    def __init__(self, status: int, reason: str, views: Sequence[tuple[int, str]] = ()) -> None:
        """Say why.

        Args:
            status: of HTTP, 4xx or 503.
            reason: one line.
            views: number, from 1, and reason of each view that was refused.
        """
        super().__init__(reason)
        self.status, self.reason, self.views = status, reason, tuple(views)


class Study(NamedTuple):
    """Views that belong together."""

    views: list[bytes]
    """The files."""
    numbers: list[int]
    """Their places in the request, from 1. Names of files may identify, and are not kept."""
    part: str
    """As manifests have it, such as `wrist`; empty if the views themselves say it, or nobody."""


class Question(NamedTuple):
    """What was asked."""

    studies: list[Study]
    partial: bool = False
    """Whether a study is answered by the views that can be read, if another is refused."""
    pictures: bool = False
    """Whether pictures and maps of the views are wanted."""


class _Form(MultiPartParser):
    """A form that stays in memory: a temporary file would keep a picture."""

    spool_max_size = 0
    """No file is moved to the disk, whatever its size. The body has a limit."""


async def from_form(headers: Headers, body: AsyncGenerator[bytes, None]) -> Question:
    """Read a form: files are views of one study.

    Args:
        headers: of the request.
        body: of the request; its size has a limit.

    Raises:
        Refusal: this is no form, or not one of `/predict`.
    """
    if headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise Refusal(415, f"expected {FORM} with the files as `{VIEW}`. Try: curl -F {VIEW}=@FILE")
    try:
        fields = await _Form(headers, body, max_files=MAX_VIEWS, max_fields=8, max_part_size=1000).parse()
    except MultiPartException as error:
        reason = error.message if error.message.startswith("Too many") else "its parts cannot be read"
        raise Refusal(400, f"a damaged form: {reason}") from None
    except ValueError:
        # Of a charset such as `undefined`, which decodes nothing.
        raise Refusal(400, "a damaged form: its parts cannot be read") from None
    try:
        return await _question([(name, value) for name, value in fields.multi_items()])
    finally:
        await fields.close()


async def _question(fields: list[tuple[str, UploadFile | str]]) -> Question:
    files = [value for name, value in fields if isinstance(value, UploadFile) and name == VIEW]
    others = {name for name, value in fields if isinstance(value, UploadFile)} - {VIEW}
    texts = {name: value for name, value in fields if isinstance(value, str)}
    if VIEW in texts:
        raise Refusal(400, f"`{VIEW}` is text, expected a file. Try: curl -F {VIEW}=@FILE")
    if wrong := sorted(others & {PART, PARTIAL, PICTURES}):
        raise Refusal(400, f"`{wrong[0]}` is a file, expected text. Views are sent as `{VIEW}`")
    if unknown := (set(texts) | others) - {PART, PARTIAL, PICTURES}:
        known = f"`{VIEW}` (files), `{PART}`, `{PARTIAL}` and `{PICTURES}`"
        raise Refusal(400, f"{count(len(unknown), 'unknown field')} in the form. Known are {known}.")
    if not files:
        raise Refusal(400, f"no file in the form. Send each view as `{VIEW}`: curl -F {VIEW}=@FILE")
    for number, file in enumerate(files, 1):
        check_size(file.size or 0, number)
    views = [await file.read() for file in files]
    study = Study(views, list(range(1, len(views) + 1)), part_of(texts.get(PART, "")))
    return Question([study], _yes(texts, PARTIAL), _yes(texts, PICTURES))


def check_size(size: int, number: int) -> None:
    """Check the size of a view before it is decoded.

    Args:
        size: bytes.
        number: of the view.

    Raises:
        Refusal: too large or empty.
    """
    if size > MAX_VIEW_BYTES:
        raise Refusal(
            413, f"view {number}: more than {MAX_VIEW_BYTES:,} bytes, the limit of a file", [(number, "size")]
        )
    if not size:
        raise Refusal(422, f"view {number}: an empty file", [(number, "an empty file")])


def part_of(text: str) -> str:
    """A body part that was given, as manifests write it.

    Raises:
        Refusal: it is no name.
    """
    part = text.strip().lower()
    if part and (len(part) > LONGEST or not re.fullmatch(PATTERN, part)):
        raise Refusal(400, f"`{PART}`: expected a body part such as `wrist`, in letters, digits and underscores")
    return part


def _yes(texts: dict[str, str], name: str) -> bool:
    said = texts.get(name, "false").lower()
    if said not in ("true", "false"):
        raise Refusal(400, f"`{name}`: expected true or false")
    return said == "true"
