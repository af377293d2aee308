"""A directory may change between listing and reading: nothing is waited for, nothing outside is read."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz_outcome import mura
from miniature import archive, images, use_cores, write_directory, write_zip

from components.archive.archive import Archive
from components.base.errors import DataChanged, DataRefused

FILES = {"a/image1.png": b"one", "a/b/image2.png": b"two" * 1000, "c.csv": b"rows\n"}
IMAGE = "a/b/image2.png"


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link_to(target: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return change


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def folder_above_is_a_link(path: Path) -> None:
    path.parent.rename(path.parents[2].parent / "elsewhere")
    path.parent.symlink_to(path.parents[2].parent / "elsewhere")


CHANGES = {
    "a pipe": fifo,
    "a device that never ends": link_to("/dev/zero"),
    "a link outside": link_to("/etc/passwd"),
    "a link to a pipe of another process": link_to("/proc/self/fd/0"),
    "a directory": folder,
    "a directory above is a link outside": folder_above_is_a_link,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_is_no_file_inside_any_more_is_not_read(tmp_path: Path, change: Callable[[Path], None]) -> None:
    place = write_directory(tmp_path / "archive", FILES)
    with Archive.read(place) as archive:
        assert sorted(archive.members()) == sorted(FILES)
        change(place / IMAGE)
        with pytest.raises(DataChanged, match=r"image2\.png: (changed while it was read|leads out of)") as refusal:
            archive.bytes_of(IMAGE)
        assert str(refusal.value).isprintable()


def test_a_pipe_in_place_of_a_file_hangs_no_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_cores(1, monkeypatch)
    files = archive(images(train=7, valid=2))
    place = write_directory(tmp_path / "archive", files)
    # It becomes a pipe when the first picture is read.
    script = f"""
        import os
        from pathlib import Path
        from components.archive.archive import Archive
        from components.cli import main

        def become_a_pipe(event, arguments):
            if event == "open" and str(arguments[0]).endswith("image1.png") and last.is_file():
                last.unlink()
                os.mkfifo(last)

        last = Path({str(place / sorted(n for n in files if n.endswith(".png"))[-1])!r})
        os.sched_getaffinity = lambda _: {{0}}
        import sys
        sys.addaudithook(become_a_pipe)
        sys.exit(main.run(["--quiet", "ingest", "--archive", {str(place)!r}, "--seed", "1", "--params",
                 '{{"tuning_fraction": 0.2}}', "--out", {str(tmp_path / "out")!r}]))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr
    assert "changed while it was read. Run the step again." in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("how", ["added", "removed", "written"])
def test_a_directory_whose_files_changed_meanwhile_is_noticed(tmp_path: Path, how: str) -> None:
    place = write_directory(tmp_path / "archive", FILES)
    with Archive.read(place) as archive:
        list(archive.members())
        archive.check_unchanged()
        if how == "added":
            (place / "more.png").write_bytes(b"")
        elif how == "removed":
            (place / IMAGE).unlink()
        else:
            (place / IMAGE).write_bytes(b"other")
        with pytest.raises(DataChanged, match="its files changed while they were read"):
            archive.check_unchanged()


def test_links_to_files_of_the_directory_and_of_dvcs_cache_are_read(tmp_path: Path) -> None:
    place = write_directory(tmp_path / "archive", FILES)
    cached = write_directory(tmp_path / "cache" / "files" / "md5" / "0a", {"1b" * 15: b"cached"}) / ("1b" * 15)
    (place / "inside.png").symlink_to("a/image1.png")
    (place / "cached.png").symlink_to(cached)
    with Archive.read(place) as archive:
        assert (archive.bytes_of("inside.png"), archive.bytes_of("cached.png")) == (b"one", b"cached")


@pytest.mark.parametrize("name", ["../secret", "a/../../secret", "/etc/passwd"])
def test_no_name_leads_out(tmp_path: Path, name: str) -> None:
    place = write_directory(tmp_path / "archive", FILES)
    (tmp_path / "secret").write_bytes(b"x")
    with Archive.read(place) as archive, pytest.raises((DataChanged, DataRefused, KeyError)):
        archive.bytes_of(name)


def test_a_zip_that_became_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    found = Archive.read(write_zip(tmp_path / "a.zip", FILES))
    fifo(tmp_path / "a.zip")
    with pytest.raises(DataChanged):
        found.__enter__()


def doubled(place: Path, levels: int, links: int) -> Path:
    """Directories each of which has so many links to the next."""
    write_directory(place / f"d{levels}", {"image1.png": b""})
    for level in range(levels):
        (place / f"d{level}").mkdir()
        for link in range(links):
            (place / f"d{level}" / f"l{link}").symlink_to(f"../d{level + 1}")
    return place


@pytest.mark.parametrize(("levels", "links"), [(30, 2), (3, 300)])
def test_links_do_not_double_the_list(tmp_path: Path, levels: int, links: int) -> None:
    place = doubled(tmp_path, levels, links)
    told = r"lies behind more than 4 links|more than 10,000 (files|directories)"
    with Archive.read(place, max_members=10_000) as archive, pytest.raises(DataRefused, match=told):
        list(archive.members())


def test_a_directory_of_too_many_files_is_refused_while_it_is_listed(tmp_path: Path) -> None:
    place = write_directory(tmp_path, {f"{number}.png": b"" for number in range(50)})
    with Archive.read(place, max_members=49) as archive, pytest.raises(DataRefused, match="more than 49 files"):
        list(archive.members())
    assert mura("ingest", "--archive", place, "--seed", 1, "--params", '{"tuning_fraction": 0.2, "max_members": 40}',
                "--out", tmp_path.parent / "x").code == 3  # fmt: skip
