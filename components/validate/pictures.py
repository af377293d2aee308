"""Small pictures of an archive's images, for a page."""

import base64
from types import TracebackType
from typing import Self

from markupsafe import Markup

from components.archive.archive import Archive
from components.base.errors import DataRefused
from components.xray.png import BadImage, decode

# Longer side, pixels: enough to see what a picture is, too little to read it.
SIDE = 160
QUALITY = 75
# Of all pictures of a page, as base64. A page of five megabytes opens at once, anywhere.
BUDGET = 3_500_000


class Pictures:
    """Pictures as `<img>`, as long as the page has room for them.

    None where a picture is not to be shown, or is not there to be shown.
    """

    def __init__(self, archive: Archive, shown: bool) -> None:
        """Take the archive, and whether its pictures may be shown at all."""
        self.shown = shown
        self.left_out = 0
        """Pictures for which there was no room."""
        self._archive = archive
        self._room = BUDGET
        self._made: dict[str, str | None] = {}

    def __enter__(self) -> Self:
        if self.shown:
            self._archive.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.shown:
            self._archive.__exit__(kind, error, trace)

    def __call__(self, member: str) -> Markup | None:
        """The picture of a member."""
        if not self.shown:
            return None
        if member not in self._made:
            self._made[member] = self._thumbnail(member)
        text = self._made[member]
        if text is None:
            return None
        if len(text) > self._room:
            self.left_out += 1
            return None
        self._room -= len(text)
        return Markup('<img src="data:image/jpeg;base64,{}" alt="{}" loading="lazy">').format(text, member)

    def _thumbnail(self, member: str) -> str | None:
        import cv2

        try:
            grey = decode(self._archive.bytes_of(member)).grey
        except (KeyError, BadImage, DataRefused):
            return None  # the finding says what is wrong with it
        height, width = grey.shape
        scale = min(1.0, SIDE / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        _, jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        return base64.b64encode(jpeg.tobytes()).decode()
