"""A directory with the version that an alias names, whichever it is at the moment."""

from pathlib import Path

from pydantic import ValidationError

from components.artifacts.artifact import Facts
from components.base import documents
from components.base.errors import DataRefused, first_line
from components.base.files import write_text

FOLLOWED = Path("followed.json")
"""The file that says which it is."""


class Behind(Facts):
    """The alias names another version, which was not taken."""

    version: int
    why: str


class Followed(Facts):
    """The version that an alias names.

    <folder>/
        followed.json     this. Whoever keeps the folder touches it whenever the registry has answered
        000007/           a version, as `mura fetch` writes it
        000006/           the one before, for whoever still reads it
    """

    uri: str
    """`models:/NAME@ALIAS`."""
    model: str
    version: int
    made: int
    """When the version was made, milliseconds since 1970: a model that is deleted and made anew counts from 1 again."""
    directory: str
    """Its name in the folder."""
    behind: Behind | None = None
    away: str = ""
    """Why the registry did not answer at the last look; empty if it did."""

    def write(self, folder: Path) -> None:
        """Put it into the folder, in the place of another."""
        write_text(folder / FOLLOWED, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Followed | None":
        """That of a folder; None if nothing has been fetched yet.

        Raises:
            DataRefused: the file cannot be read.
        """
        try:
            return cls.model_validate_json(documents.content(folder / FOLLOWED))
        except FileNotFoundError:
            return None
        except (ValidationError, documents.TooLarge) as error:
            raise DataRefused(
                f"{folder / FOLLOWED}: not a file of `mura fetch --follow` ({first_line(error)})."
            ) from error
