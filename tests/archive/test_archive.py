import os
import struct
import zipfile
from functools import partial
from pathlib import Path

import pytest
from miniature import write_directory, write_zip

from components.archive.archive import Archive
from components.base import workers
from components.base.errors import DataChanged, DataRefused, UsageError

FILES = {
    "MURA-v1.1/train/XR_WRIST/patient00001/study1_positive/image1.png": b"one",
    "MURA-v1.1/train/XR_WRIST/patient00001/study1_positive/._image1.png": b"sidecar",
    "MURA-v1.1/train_image_paths.csv": b"path\n",
    "MURA-v1.1/valid/XR_HAND/patient00002/study1_negative/image1.png": b"two" * 1000,
    "MURA-v1.1/übersicht.txt": b"",
}
IMAGE = next(iter(FILES))


def content(path: Path) -> dict[str, bytes]:
    with Archive.read(path) as archive:
        return {member: archive.bytes_of(member) for member in archive.members()}


def reopened(archive: Archive, member: str) -> tuple[int, int, bytes]:
    """In a worker: the process, the handle, the content of a member."""
    handle = archive.reopen()
    return os.getpid(), id(handle), handle.bytes_of(member)


def damage(path: Path, find: bytes, put: bytes) -> None:
    whole = path.read_bytes()
    assert find in whole
    path.write_bytes(whole.replace(find, put))


def test_zip_and_directory_hold_the_same_members_and_bytes(tmp_path: Path) -> None:
    zipped, folder = write_zip(tmp_path / "a.zip", FILES), write_directory(tmp_path / "a", FILES)
    assert content(zipped) == content(folder) == FILES


@pytest.mark.parametrize("kind", ["zip", "directory"])
def test_members_come_in_ascending_order_and_without_folders(tmp_path: Path, kind: str) -> None:
    files = dict(reversed(FILES.items()))
    path = tmp_path / "a"
    if kind == "zip":
        with zipfile.ZipFile(write_zip(path, files), "a") as archive:
            archive.mkdir("MURA-v1.1/empty/")
    else:
        (write_directory(path, files) / "MURA-v1.1" / "empty").mkdir()
    with Archive.read(path) as opened:
        assert list(opened.members()) == sorted(FILES)


def test_compressed_members_are_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    assert content(tmp_path / "a.zip") == FILES


@pytest.mark.parametrize("kind", ["zip", "directory"])
def test_an_unknown_member_is_a_key_error(tmp_path: Path, kind: str) -> None:
    path = write_zip(tmp_path / "a", FILES) if kind == "zip" else write_directory(tmp_path / "a", FILES)
    with Archive.read(path) as archive:
        for member in ("MURA-v1.1/none.png", f"{IMAGE}/none.png"):
            with pytest.raises(KeyError):
                archive.bytes_of(member)


def test_a_missing_archive_is_a_wrong_path_and_the_phantom_is_offered(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.zip: no such archive.*mura phantom --out"):
        Archive.read(tmp_path / "none.zip")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x05\x06", b"<html>404</html>" * 100], ids=range(4))
def test_what_is_no_zip_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataRefused, match=r"a\.zip: not a readable zip .*Is the download complete"):
        Archive.read(tmp_path / "a.zip")


def test_a_zip_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = write_zip(tmp_path / "a.zip", FILES).read_bytes()
    for kept in range(0, len(whole), 7):
        (tmp_path / "a.zip").write_bytes(whole[:kept])
        with pytest.raises(DataRefused):
            Archive.read(tmp_path / "a.zip")


def test_a_zip_with_a_damaged_byte_anywhere_gives_no_other_error(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", FILES)
    whole = path.read_bytes()
    refusals = []
    for place in [*range(0, len(whole), 31), *range(len(whole) - 700, len(whole))]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x81]) + whole[place + 1 :])
        try:
            with Archive.read(path) as archive:
                for member in archive.members():
                    archive.bytes_of(member)
        except DataRefused as refusal:
            refusals.append(str(refusal))
    assert len(refusals) > 300
    assert not [refusal for refusal in refusals if "\n" in refusal]


def test_a_member_with_a_wrong_checksum_is_refused_by_name(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", FILES)
    damage(path, b"twotwo", b"twoTwo")
    with Archive.read(path) as archive, pytest.raises(DataRefused, match=r"patient00002/.*/image1\.png: .*CRC"):
        archive.bytes_of("MURA-v1.1/valid/XR_HAND/patient00002/study1_negative/image1.png")


def test_an_encrypted_member_is_refused_by_name(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {IMAGE: b"one"})
    whole = bytearray(path.read_bytes())
    # Bit 0 of the flags, in the member's own header and in the table of contents.
    for place in (6, whole.index(b"PK\x01\x02") + 8):
        struct.pack_into("<H", whole, place, struct.unpack_from("<H", whole, place)[0] | 1)
    path.write_bytes(whole)
    with Archive.read(path) as archive, pytest.raises(DataRefused, match=r"image1\.png: .*encrypted"):
        archive.bytes_of(IMAGE)


def test_links_within_a_directory_and_to_the_cache_of_dvc_are_followed(tmp_path: Path) -> None:
    cache = tmp_path / ".dvc" / "cache" / "files" / "md5" / "0a"
    path = write_directory(tmp_path / "a", FILES)
    cached = write_directory(cache, {"1b" * 15: b"path\n"}) / ("1b" * 15)
    (path / "cached.csv").symlink_to(cached)
    (path / "again").symlink_to("MURA-v1.1/valid")
    below = {name.replace("MURA-v1.1/valid", "again"): data for name, data in FILES.items() if "/valid/" in name}
    assert content(path) == FILES | {"cached.csv": b"path\n"} | below


def test_a_file_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = write_directory(tmp_path / "a", FILES)
    Path(os.fsdecode(os.fsencode(path) + b"/\xff.png")).write_bytes(b"")
    with Archive.read(path) as archive, pytest.raises(DataRefused, match=r"not UTF-8\. Rename"):
        list(archive.members())


def test_a_tree_of_any_depth_is_walked(tmp_path: Path) -> None:
    folder = tmp_path
    for _ in range(450):
        folder /= "a"
    folder.mkdir(parents=True)
    (folder / "image1.png").write_bytes(b"")
    assert list(content(tmp_path)) == ["a/" * 450 + "image1.png"]


def test_reading_leaves_the_archive_as_it_was(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", FILES)
    path.chmod(0o444)
    before = path.read_bytes()
    content(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.long
@pytest.mark.parametrize("kind", ["zip", "directory"])
@pytest.mark.parametrize("count", [1, 2])
def test_each_worker_opens_its_own_handle_and_keeps_it(tmp_path: Path, kind: str, count: int) -> None:
    path = write_zip(tmp_path / "a", FILES) if kind == "zip" else write_directory(tmp_path / "a", FILES)
    with Archive.read(path) as archive:
        members = [member for member in archive.members() for _ in range(4)]
        with workers.in_order(partial(reopened, archive), members, workers=count) as results:
            done = list(results)
        assert id(archive) not in {handle for process, handle, _ in done if process == os.getpid()}
    assert [data for *_, data in done] == [FILES[member] for member in members]
    handles = {(process, handle) for process, handle, _ in done}
    assert len(handles) == len({process for process, _ in handles})


def test_a_handle_stays_open_when_the_archive_is_closed(tmp_path: Path) -> None:
    with Archive.read(write_zip(tmp_path / "a.zip", FILES)) as archive:
        handle = archive.reopen()
    assert handle.bytes_of(IMAGE) == archive.reopen().bytes_of(IMAGE) == b"one"


@pytest.mark.parametrize("opened_before", [False, True])
def test_a_file_that_is_replaced_is_noticed_by_a_worker(tmp_path: Path, opened_before: bool) -> None:
    archive = Archive.read(write_zip(tmp_path / "a.zip", FILES))
    if opened_before:
        archive.reopen()
    write_zip(tmp_path / "a.zip", FILES | {"more": b"x"})
    with pytest.raises(DataChanged, match=r"a\.zip: replaced while it was read\. Run the step again"):
        archive.reopen()
