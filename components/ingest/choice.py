"""Which images belong to the body parts that were chosen."""

from collections import Counter
from collections.abc import Iterable, Sequence

from components.archive.archive import Archive
from components.archive.member_paths import body_part
from components.archive.mura_csv import folder_of
from components.base.errors import DataRefused, printable
from components.base.words import in_words


class Choice:
    """The body parts to read."""

    def __init__(self, parts: Sequence[str] | None) -> None:
        """Take the body parts; None for all."""
        self._parts = parts

    def has(self, member: str) -> bool:
        """Whether an image or study belongs to them. One without a body part does: validation judges it."""
        return self._parts is None or body_part(member) in (*self._parts, None)

    def check(self, archive: Archive, images: Iterable[str]) -> None:
        """Refuse an archive that lacks a chosen body part.

        Args:
            archive: named in the error.
            images: all images of the archive.

        Raises:
            DataRefused: it lacks one.
        """
        if self._parts is None:
            return
        there = {part for image in images if (part := body_part(image))}
        if lacking := [part for part in self._parts if part not in there]:
            found = in_words([printable(part) for part in sorted(there)]) if there else "none"
            raise DataRefused(
                f"{archive.place}: no image of {in_words(lacking)}, which ingest.body_parts of params.yaml names. "
                f"Body parts there: {found}."
            )

    def studies_by_part(self, images: Iterable[str]) -> dict[str, int]:
        """Numbers of studies of these images, by body part."""
        return dict(sorted(Counter(body_part(study) or "" for study in {folder_of(image) for image in images}).items()))
