"""Numbers, sizes and lists of things in sentences."""

from collections.abc import Sequence


def count(number: int, thing: str) -> str:
    """`1 image`, `1,576 images`, `2 studies`."""
    several = f"{thing[:-1]}ies" if thing.endswith("y") else f"{thing}s"
    return f"{number:,} {thing if number == 1 else several}"


def in_words(things: Sequence[str]) -> str:
    """`wrist`, `elbow and wrist`, `elbow, shoulder and wrist`. At least one thing."""
    *others, last = things
    return f"{', '.join(others)} and {last}" if others else last


def size(count: int) -> str:
    """Bytes: `12.3 MB`."""
    for unit, bytes_of_it in (("GB", 1e9), ("MB", 1e6)):
        if count >= bytes_of_it:
            return f"{count / bytes_of_it:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"


def with_article(thing: str) -> str:
    """`a Manifest`, `an Evaluation`."""
    return f"{'an' if thing[:1].lower() in tuple('aeiou') else 'a'} {thing}"
