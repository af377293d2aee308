"""Members of a zip that is written: the same bytes on every system, at any time."""

from zipfile import ZipFile, ZipInfo

# The earliest of the zip format. With a fixed date, the same files give the same zip.
DATE = (1980, 1, 1, 0, 0, 0)


def add(made: ZipFile, name: str, content: bytes, date: tuple[int, int, int, int, int, int] = DATE) -> None:
    """Add a file to a zip that is being written."""
    entry = ZipInfo(name, date)
    entry.create_system = 3  # Unix, on every system
    entry.external_attr = 0o100644 << 16
    made.writestr(entry, content)
