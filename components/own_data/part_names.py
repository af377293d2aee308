"""What the body parts of somebody's files are called here.

    KNIE: knee
    UNTERARM LI: forearm
    UNTERARM RE: forearm

Such a YAML map says it for each word, in capital letters or not. A word that the map does not have is left out. Without
a map, DICOM's own terms are taken.
"""

import re
from pathlib import Path
from typing import Self

import yaml

from components.base import documents
from components.base.errors import UsageError
from components.base.names import LONGEST, PATTERN
from components.xray import body_parts

_MOST = 1 << 20


class PartNames:
    """Names of body parts by the words of the files."""

    def __init__(self, by_word: dict[str, str] | None = None) -> None:
        """Take a map from words in capital letters; None for DICOM's own terms."""
        self._by_word = by_word

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a map.

        Raises:
            UsageError: it cannot be read, or is none.
        """
        try:
            found = documents.yaml_of(documents.content(path, _MOST).decode("utf-8"))
        except (documents.TooLarge, UnicodeDecodeError, yaml.YAMLError, OSError):
            raise UsageError("--parts: cannot be read, or is no YAML in UTF-8.") from None
        if not isinstance(found, dict) or not found:
            raise UsageError("--parts: expected a map, such as `KNIE: knee`.")
        by_word = {}
        for place, (word, name) in enumerate(found.items(), 1):
            if not isinstance(word, str):
                raise UsageError(f"--parts: entry {place}: expected a word. Write it in quotes.")
            if not isinstance(name, str) or len(name) > LONGEST or not re.search(PATTERN, name):
                raise UsageError(f"--parts: entry {place}: expected a name such as lower_leg: a-z, 0-9 and _.")
            by_word[_word(word)] = name
        return cls(by_word)

    def of_file(self, said: str) -> str:
        """The name for a word of a file, which may be anything; empty if it is not known."""
        if self._by_word is not None:
            return self._by_word.get(_word(said), "")
        return body_parts.of_dicom(said)

    def of_row(self, said: str) -> str:
        """The name for a word of the CSV of labels; empty if it is not known."""
        return self.of_file(said) if self._by_word is not None else body_parts.named(_word(said))


def _word(said: str) -> str:
    return " ".join(said.upper().split())
