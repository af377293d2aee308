"""Both headers of a member must say the same, and nothing may lie between two members."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz_outcome import memory_below
from miniature import write_zip

from components.archive.archive import Archive
from components.base.errors import DataRefused

FILES = {"a/one.txt": b"one" * 100, "a/two.txt": b"two" * 100, "three.txt": b"3"}
TWO = "a/two.txt"
# Where fields are in the header before a member.
FLAGS, METHOD, CRC, PACKED, SIZE = 6, 8, 14, 18, 22


def content(path: Path) -> dict[str, bytes]:
    with Archive.read(path) as archive:
        return {member: archive.bytes_of(member) for member in archive.members()}


def packed(path: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as made:
        for name, data in FILES.items():
            made.writestr(name, data)
    return path


def second(whole: bytes) -> int:
    """Where the header before the second member begins."""
    return whole.index(b"PK\3\4", 4)


def put(form: str, at: int, value: int) -> Callable[[bytes], bytes]:
    def change(whole: bytes) -> bytes:
        changed = bytearray(whole)
        struct.pack_into(form, changed, second(whole) + at, value)
        return bytes(changed)

    return change


HEADERS = {
    "another name": lambda whole: whole.replace(b"a/two.txt", b"a/TWO.txt", 1),
    "another method": put("<H", METHOD, 12),
    "encrypted there only": put("<H", FLAGS, 1),
    "another CRC": put("<L", CRC, 7),
    "another size": put("<L", SIZE, 7),
    "no size, and not streamed": put("<L", SIZE, 0),
    "another packed size": put("<L", PACKED, 7),
    "no header": put("<L", 0, 7),
}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("change", HEADERS.values(), ids=HEADERS)
def test_a_header_that_differs_from_the_table_of_contents_is_refused(
    tmp_path: Path, change: Callable[[bytes], bytes], method: int
) -> None:
    path = packed(tmp_path / "a.zip", method)
    path.write_bytes(change(path.read_bytes()))
    with Archive.read(path) as archive:
        assert archive.bytes_of("a/one.txt") == FILES["a/one.txt"]
        with pytest.raises(DataRefused, match=r"a/two\.txt: cannot be read from a\.zip \(.*header"):
            archive.bytes_of(TWO)


class Stream(io.RawIOBase):
    """What one writes to without going back: zipfile then writes zeros first, and a descriptor behind."""

    def __init__(self) -> None:
        self.content = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self.content += bytes(data)  # type: ignore[call-overload]
        return len(bytes(data))  # type: ignore[call-overload]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("signed", [True, False])
def test_a_streamed_zip_is_read(tmp_path: Path, method: int, large: bool, signed: bool) -> None:
    stream = Stream()
    with zipfile.ZipFile(stream, "w", method) as made:  # type: ignore[call-overload]
        for name, data in FILES.items():
            with made.open(name, "w", force_zip64=large) as member:
                member.write(data)
    whole = bytes(stream.content)
    assert struct.unpack_from("<H", whole, FLAGS)[0] & 8
    path = tmp_path / "a.zip"
    path.write_bytes(whole)
    if not signed:
        # Some writers leave the signature of the descriptor out; only the last one, so that nothing else moves.
        start = whole.rindex(b"PK\7\x08")
        table, end = whole.index(b"PK\1\2"), whole.rindex(b"PK\5\6")
        changed = bytearray(whole[:start] + whole[start + 4 :])
        struct.pack_into("<L", changed, end - 4 + 16, table - 4)
        path.write_bytes(changed)
    assert content(path) == FILES


def with_between(path: Path, hidden: bytes, where: int) -> Path:
    """A zip with bytes behind one of its members."""
    with path.open("wb") as file, zipfile.ZipFile(file, "w") as made:
        for number, (name, data) in enumerate(FILES.items()):
            made.writestr(zipfile.ZipInfo(name), data)
            if number == where:
                file.write(hidden)
                made.start_dir = file.tell()
    return path


@pytest.mark.parametrize("where", [0, 1, 2])
@pytest.mark.parametrize("hidden", [b"hidden", b"PK\3\4" + bytes(40), b"\0" * 30 + b"x"])
def test_bytes_between_members_are_refused(tmp_path: Path, hidden: bytes, where: int) -> None:
    name, path = list(FILES)[where], with_between(tmp_path / "a.zip", hidden, where)
    told = rf"{name}: .*\({len(hidden)} bytes are hidden behind it\)"
    with Archive.read(path) as archive, pytest.raises(DataRefused, match=told):
        archive.bytes_of(name)


def test_much_between_members_is_refused_before_any_is_read(tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match=r"one\.txt: up to 70,\d+ bytes are hidden behind it"):
        Archive.read(with_between(tmp_path / "a.zip", b"x" * 70_000, 0))
    with pytest.raises(DataRefused, match=r"three\.txt: up to 70,\d+ bytes are hidden behind it"):
        Archive.read(with_between(tmp_path / "b.zip", b"x" * 70_000, 2))


def test_zeros_between_members_align_them(tmp_path: Path) -> None:
    assert content(with_between(tmp_path / "a.zip", bytes(4096), 1)) == FILES


@pytest.mark.parametrize(
    "name",
    ["CON", "a/con.png", "a/Aux.txt/b.png", "NUL", "a/COM1", "LPT9.csv", "a/b:c.png", "what?.png", "a*b.png", "a<b",
     'a"b', "a|b", "a./b.png", "a /b.png", "image1.png.", "image1.png "],
)  # fmt: skip
def test_names_that_windows_cannot_keep_are_refused(tmp_path: Path, name: str) -> None:
    zipped = write_zip(tmp_path / "a.zip", FILES)
    with zipfile.ZipFile(zipped, "a") as made:
        made.writestr(name, b"")
    with pytest.raises(DataRefused, match=r"a\.zip: .*a name that Windows cannot keep\. Rename the file"):
        Archive.read(zipped)
    place = tmp_path / "folder"
    (place / name).parent.mkdir(parents=True)
    (place / name).write_bytes(b"")
    with Archive.read(place) as archive, pytest.raises(DataRefused, match="a name that Windows cannot keep"):
        list(archive.members())


def test_names_that_only_look_like_those_are_kept(tmp_path: Path) -> None:
    files = dict.fromkeys(
        ["console.png", "a.con", "auxiliary/b.png", "com/x.png", "COM10.png", ".hidden", "a b.png"], b""
    )
    assert content(write_zip(tmp_path / "a.zip", files)) == files


@pytest.mark.parametrize(
    "names",
    [
        ("XR_WRIST/patient1/image1.png", "XR_WRIST/Patient1/image2.png"),
        ("a/b/c/d/1.png", "A/b/c/e/1.png"),
        ("caf\u00e9/1.png", "cafe\u0301/2.png"),
    ],
)
def test_directories_that_differ_by_case_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(DataRefused, match=r"only by case or accents\. Rename one of the two"):
        Archive.read(write_zip(tmp_path / "a.zip", dict.fromkeys(names, b"")))


def packed_bomb(path: Path, declared: int, real: int) -> Path:
    """A member whose packed bytes expand to far more than the table of contents says."""
    stream = zlib.compressobj(1, zlib.DEFLATED, -15)
    data = b"".join(stream.compress(bytes(1 << 24)) for _ in range(real >> 24)) + stream.flush()
    with zipfile.ZipFile(path, "w") as made:
        entry = zipfile.ZipInfo("bomb.csv")
        made.writestr(entry, data)
        entry.compress_type, entry.file_size, entry.CRC = zipfile.ZIP_DEFLATED, declared, zlib.crc32(bytes(declared))
    whole = bytearray(path.read_bytes())
    struct.pack_into("<H", whole, METHOD, zipfile.ZIP_DEFLATED)
    path.write_bytes(whole)
    return path


def test_a_member_is_not_unpacked_beyond_its_size(tmp_path: Path) -> None:
    told = r"bomb\.csv: .*more than the 9,000,000 bytes"
    path = packed_bomb(tmp_path / "a.zip", 9_000_000, 1 << 28)
    with Archive.read(path) as archive, memory_below(50_000_000), pytest.raises(DataRefused, match=told):
        archive.bytes_of("bomb.csv")


def test_packed_bytes_without_end_for_few_are_not_read(tmp_path: Path) -> None:
    with (
        Archive.read(packed_bomb(tmp_path / "a.zip", 9_000, 1 << 27)) as archive,
        pytest.raises(DataRefused, match="packed bytes cannot be the 9,000"),
    ):
        archive.bytes_of("bomb.csv")
