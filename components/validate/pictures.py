"""Thumbnails of an archive's images, for a page."""

import base64
from types import TracebackType
from typing import Self

import cv2
from markupsafe import Markup

from components.archive.archive import Archive
from components.base.errors import DataRefused
from components.xray.png import BadImage, decode

# Longer side, pixels: enough to recognise a picture, too little for a diagnosis.
SIDE = 160
QUALITY = 75
# Bytes of all pictures of a page, as base64. A page of five megabytes opens at once.
BUDGET = 3_500_000


class Pictures:
    """Pictures as `<img>`, up to BUDGET bytes.

    None for a picture that must not be shown or cannot be read.
    """

    def __init__(self, archive: Archive, shown: bool) -> None:
        """Take the archive, and whether its pictures may be shown."""
        self.shown = shown
        self.left_out = 0
        """Number of pictures that did not fit into the page."""
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
        try:
            grey = decode(self._archive.bytes_of(member)).grey
        except (KeyError, BadImage, DataRefused):
            return None  # the outcome names the problem
        height, width = grey.shape
        scale = min(1.0, SIDE / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        _, jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        return base64.b64encode(jpeg.tobytes()).decode()
