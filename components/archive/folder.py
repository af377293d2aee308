"""A directory as an archive. It may change while it is read: what is opened is checked, not what was listed.

Links are followed inside of the directory and into DVC's cache, and nowhere else.
"""

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from components.archive import disk
from components.archive.zip_safety import check_name, check_text, refused, too_many
from components.base.errors import DataChanged, DataRefused, printable

# Target of DVC's links: a file in its cache, named by its md5.
DVC_CACHE = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")
# Links to directories on the way to a file. Directories that link to one another would double the list at each.
MAX_LINKS = 4
# What Linux calls an open file. Elsewhere there is no such directory.
_OPENED = Path("/proc/self/fd")


class Entry(NamedTuple):
    """A file of the directory."""

    name: str
    """Relative and `/`-separated."""
    size: int
    stamp: str
    """Inode and time of change."""


class _Waiting(NamedTuple):
    """A directory that is not listed yet."""

    prefix: str
    path: str
    above: frozenset[str]
    """Directories that contain it, by way of links."""
    links: int
    """Links on the way to it."""


class Folder:
    """A directory and all files below it."""

    def __init__(self, place: str, most: int) -> None:
        """Refer to a directory of at most so many files."""
        self.place = place
        self.most = most
        self._root = os.path.realpath(place)
        self._listed: int | None = None
        """A digest of the files when they were listed first."""

    def files(self) -> Iterator[Entry]:
        """All files, in no order.

        Raises:
            DataRefused: a link has a target outside, no target or is part of a circle; an entry is neither a file nor a
                directory, or has an unusable name; or there are too many of them.
            DataChanged: the files are not those of an earlier call.
        """
        # A sum, which has no order: a list of entries takes more memory than one of names.
        total = 0
        for entry in self._walk():
            total += int.from_bytes(hashlib.sha256(repr(tuple(entry)).encode()).digest())
            yield entry
        if self._listed not in (None, total):
            raise DataChanged(f"{self.place}: its files changed while they were read. Run the step again.")
        self._listed = total

    def readable(self) -> tuple[list[str], dict[str, DataRefused]]:
        """Names of the files that can be read, ascending, and of what cannot be, with the reason.

        Names of directories end with a slash. A name that only another system refuses is no reason.

        Raises:
            DataRefused: there are too many of them.
            OSError: the directory itself cannot be read.
        """
        lost: dict[str, DataRefused] = {}
        return sorted(entry.name for entry in self._walk(lost)), lost

    def check_unchanged(self) -> None:
        """List the files again, if they were listed.

        Raises:
            DataChanged: as `files`.
        """
        if self._listed is not None:
            for _ in self.files():
                pass

    def read(self, name: str, most: int) -> bytes | None:
        """The content of a file. None if it has more than `most` bytes.

        Raises:
            KeyError: there is none.
            DataChanged: it is no file inside of the directory, or it is written to.
            OSError: it cannot be read.
        """
        target = os.path.realpath(os.path.join(self._root, name))  # noqa: PTH118 - takes a tenth of pathlib's time
        if not self._allows(target):
            raise DataChanged(f"{printable(name)}: leads out of {self.place}, to {printable(target)}.")
        try:
            with disk.opened(target, name, follow=False) as file:
                link = _OPENED / str(file.fileno())
                # Another directory on the way may have become a link since.
                if _OPENED.is_dir() and os.path.realpath(link) != target:
                    raise disk.changed(name)
                return disk.whole(file, name) if os.fstat(file.fileno()).st_size <= most else None
        except (FileNotFoundError, NotADirectoryError):
            raise KeyError(name) from None
        except OSError as error:
            # A link, a socket, a device without a driver, a directory.
            if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EISDIR):
                raise disk.changed(name) from error
            raise

    def _allows(self, target: str) -> bool:
        return target == self._root or target.startswith(f"{self._root}/") or bool(DVC_CACHE.search(target))

    def _walk(self, lost: dict[str, DataRefused] | None = None) -> Iterator[Entry]:
        """All files. What cannot be read is refused, or noted in `lost`."""
        waiting = [_Waiting("", self._root, frozenset({self._root}), 0)]
        files, folders = 0, 1
        while waiting:
            here = waiting.pop()
            for entry in self._entries(here, lost):
                name = here.prefix + entry.name
                try:
                    (check_name if lost is None else check_text)(name, self.place)
                    found = self._file(entry, name)
                    below = self._below(entry, name, here) if found is None else None
                except (DataRefused, OSError) as error:
                    if lost is None:
                        raise
                    lost[name] = error if isinstance(error, DataRefused) else self._unreadable(name, error)
                    found = below = None
                if below is not None:
                    folders += 1
                    # With the one that is looked at, a directory has as many files as there are directories.
                    if folders > self.most:
                        raise DataRefused(too_many(self.place, self.most, "directories"))
                    waiting.append(below)
                    continue
                files += 1
                if files > self.most:
                    raise DataRefused(too_many(self.place, self.most))
                if found is not None:
                    yield found

    def _entries(self, here: _Waiting, lost: dict[str, DataRefused] | None) -> Iterator["os.DirEntry[str]"]:
        """What is in a directory. One below the first that cannot be read is noted in `lost`, if it is there."""
        try:
            entries = os.scandir(here.path)
        except OSError as error:
            if lost is None or not here.prefix:
                raise
            lost[here.prefix] = self._unreadable(here.prefix, error)
            return
        with entries:
            yield from entries

    def _unreadable(self, name: str, error: OSError) -> DataRefused:
        return refused(self.place, name, f"cannot be read ({error.strerror}).")

    def _file(self, entry: "os.DirEntry[str]", name: str) -> Entry | None:
        """What an entry is. None for a directory."""
        if entry.is_symlink():
            target = os.path.realpath(entry.path)
            if not self._allows(target):
                raise refused(
                    self.place,
                    name,
                    f"a link to {printable(target)}, outside of the archive. Replace the link by the file, or use the "
                    "link's target as the archive.",
                )
        # `entry.is_file` fails for a link to itself.
        try:
            is_file, is_folder = entry.is_file(), entry.is_dir()
        except OSError:
            is_file = is_folder = False
        if is_file:
            status = entry.stat()
            return Entry(name, status.st_size, f"{status.st_ino}-{status.st_mtime_ns}")
        if not is_folder:
            what = "a broken link" if entry.is_symlink() else "neither a file nor a directory"
            raise refused(self.place, name, f"{what}. Remove it.")
        return None

    def _below(self, entry: "os.DirEntry[str]", name: str, here: _Waiting) -> _Waiting:
        if not entry.is_symlink():
            return _Waiting(f"{name}/", entry.path, here.above, here.links)
        target = os.path.realpath(entry.path)
        if DVC_CACHE.search(target):
            raise refused(self.place, name, f"a link to {printable(target)}, a directory. DVC links files only.")
        if target in here.above:
            raise refused(self.place, name, "a link to a directory that contains it. Remove it.")
        if here.links == MAX_LINKS:
            raise refused(self.place, name, f"lies behind more than {MAX_LINKS} links to directories. Remove it.")
        return _Waiting(f"{name}/", target, here.above | {target}, here.links + 1)
