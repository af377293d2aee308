"""What stores say of a file that they do not have."""

from components.tracking import failures

_LOST = ("No such file", "No such artifact", "NoSuchKey", "NoSuchBucket", "404", "Not Found", "does not exist")


def is_lost(error: Exception) -> bool:
    """Whether an error says that a store does not have a file."""
    return failures.is_missing(error) or any(sign in str(error) for sign in _LOST)
