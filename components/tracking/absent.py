"""What stores say of a file that they do not have."""

import re

from components.tracking import failures

_LOST = ("No such file", "No such artifact", "NoSuchKey", "NoSuchBucket", "Not Found", "does not exist")
# Addresses have ids and ports, in which these digits stand by chance.
_ADDRESS, _STATUS = re.compile(r"\w+://\S+|\burl: \S+|\bport=\d+"), re.compile(r"\b404\b")


def is_lost(error: Exception) -> bool:
    """Whether an error says that a store does not have a file."""
    text = _ADDRESS.sub("", str(error))
    return failures.is_missing(error) or any(sign in text for sign in _LOST) or bool(_STATUS.search(text))
