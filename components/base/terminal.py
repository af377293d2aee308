"""What is printed: nothing in it moves a cursor, and no secret is in it.

Names of members, runs and files, answers of servers and logs of pods are written by others. A terminal would obey
sequences in them: to rename its window, to hide a line, to write right to left.
"""

import logging
import os
import re
from typing import Any
from urllib.parse import unquote

import click

from components.base.errors import printable
from components.base.urls import HIDDEN, without_credentials

# Variables whose whole values are secrets, by the ends of their names, and the shortest value that is taken for one.
_SECRETS = ("PASSWORD", "TOKEN", "SECRET", "SECRET_ACCESS_KEY", "COOKIE", "WEBHOOK_URL")
_SHORTEST = 8
# The password in an address.
_LOGIN = re.compile(r"(?:[\w+.-]+://)?[^/@:\s]*:([^\s]+)@")


def harmless(text: str) -> str:
    """A text of several lines as it may be printed.

    Line breaks and tabs stay, other characters that are not printable are written as escapes.
    """
    lines = (without_secrets(line) for line in text.replace("\r\n", "\n").split("\n"))
    return "\n".join("\t".join(printable(part) for part in line.split("\t")) for line in lines)


def without_secrets(text: str) -> str:
    """A text without the credentials of URLs, and without the secrets of this process' environment."""
    for secret in _of_environment():
        text = text.replace(secret, HIDDEN)
    return without_credentials(text)


def tell(text: str = "", *, err: bool = False, bold: bool = False) -> None:
    """Print a text, harmless."""
    said = harmless(text)
    click.echo(click.style(said, bold=True) if bold else said, err=err)


class Formatter(logging.Formatter):
    """A record as one line; the lines of a traceback below it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line. A message of a library may have several."""
        record.message = harmless(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """The traceback."""
        return harmless(super().formatException(ei))


def _of_environment() -> list[str]:
    """The secrets that the environment has: variables that are one, and passwords in the addresses of others."""
    found = set()
    for name, value in os.environ.items():
        if name.upper().endswith(_SECRETS):
            found.add(value.strip())
        elif login := _LOGIN.match(value):
            found |= {login[1], unquote(login[1])}
    # Longer ones first: one may be a part of another.
    return sorted((secret for secret in found if len(secret) >= _SHORTEST), key=len, reverse=True)
