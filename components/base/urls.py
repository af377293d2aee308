"""Addresses."""

import re

S3_SCHEME = "s3://"


def without_credentials(url: str) -> str:
    """The same URL without `user:password@`."""
    return re.sub(r"//[^/]*@", "//", url)


def check_written_out(place: str) -> None:
    """Check that a place needs no shell: neither DVC nor the system knows what one makes of `~`.

    Raises:
        ValueError: it begins with `~`.
    """
    if re.match(r"~[^/]*/", place) or place == "~":
        raise ValueError("`~` is not expanded here; write the whole path, or ./~ for a directory of that name")
