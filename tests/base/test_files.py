import errno
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import writers
from writers import CARD, DONE

from components.base.errors import UsageError
from components.base.files import CHECKPOINT, INPUTS, write_text, writing


@pytest.fixture
def jar(tmp_path: Path) -> Path:
    """A directory that was written before."""
    path = tmp_path / "jar"
    path.mkdir()
    (path / "a.bin").write_bytes(b"aaaa")
    (path / CARD).write_text("old")
    return path


def attempt(out: Path, inputs: dict[str, Any], fail: bool) -> list[str]:
    """Leave a half-written file and a checkpoint; what the attempt found, to begin with."""
    with writing(out, inputs, CARD) as work:
        found = sorted(path.relative_to(work).as_posix() for path in work.rglob("*.bin"))
        (work / "half.bin").write_bytes(b"h")
        (work / CHECKPOINT / "state.bin").write_bytes(b"s")
        if fail:
            raise InterruptedError
    return found


def test_the_artifact_stands_when_the_block_ends(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "jar"
    with writing(out, {"seed": 1}, CARD) as work:
        assert [entry.name for entry in work.iterdir()] == [CHECKPOINT]
        (work / "a.bin").write_bytes(b"a")
        assert not out.exists()
        (work / CARD).write_text("x")
    assert (out / CARD).read_text() == "x"
    assert [entry.name for entry in out.parent.iterdir()] == ["jar"]


def test_an_artifact_that_was_there_is_replaced_whole(jar: Path) -> None:
    with writing(jar, {}, CARD) as work:
        (work / "new.bin").write_bytes(b"n")
        assert (jar / CARD).read_text() == "old"
        (work / CARD).write_text("new")
    assert {entry.name for entry in jar.iterdir()} == {"card.json", "new.bin"}
    assert [entry.name for entry in jar.parent.iterdir()] == ["jar"]


def test_a_step_that_fails_leaves_what_was_there(jar: Path) -> None:
    with pytest.raises(InterruptedError):
        attempt(jar, {}, fail=True)
    assert (jar / CARD).read_text() == "old"


def test_a_step_that_failed_leaves_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        attempt(tmp_path / "jar", {}, fail=True)
    assert not (tmp_path / "jar").exists()


@pytest.mark.parametrize(
    ("again", "found"),
    [({"seed": 1, "shards": "ab"}, ["checkpoint/state.bin"]), ({"seed": 2, "shards": "ab"}, []), ({"seed": 1}, [])],
    ids=["same inputs", "another input", "one input less"],
)
def test_only_the_checkpoint_survives_and_only_for_the_same_inputs(
    tmp_path: Path, again: dict[str, Any], found: list[str]
) -> None:
    with pytest.raises(InterruptedError):
        attempt(tmp_path / "jar", {"shards": "ab", "seed": 1}, fail=True)
    assert attempt(tmp_path / "jar", again, fail=False) == found


def test_no_checkpoint_survives_success(tmp_path: Path) -> None:
    attempt(tmp_path / "jar", {}, fail=False)
    assert not (tmp_path / "jar" / CHECKPOINT).exists()
    (tmp_path / "jar" / "card.json").write_text("{}")
    assert attempt(tmp_path / "jar", {}, fail=False) == []


@pytest.mark.parametrize("out", [".", "folder", "folder/../folder"])
def test_what_is_no_artifact_is_not_replaced(tmp_path: Path, out: str) -> None:
    precious = tmp_path / "folder" / "precious.zip"
    precious.parent.mkdir()
    precious.write_bytes(b"the only copy")
    with pytest.raises(UsageError, match="something else than an artifact"), writing(tmp_path / out, {}, CARD):
        pass
    assert precious.read_bytes() == b"the only copy"


def test_two_processes_do_not_write_the_same_artifact(tmp_path: Path) -> None:
    with writing(tmp_path / "jar", {"seed": 1}, CARD) as work:
        (work / "half.bin").write_bytes(b"h")
        with pytest.raises(UsageError, match="another process"), writing(tmp_path / "jar", {"seed": 2}, CARD):
            pass
        assert (work / "half.bin").exists()


def test_killed_between_the_renames_the_old_artifact_comes_back(tmp_path: Path) -> None:
    old = tmp_path / ".jar.discarded"
    old.mkdir()
    (old / "card.json").write_text("old")
    with pytest.raises(RuntimeError, match="stop"), writing(tmp_path / "jar", {}, CARD):
        raise RuntimeError("stop")
    assert (tmp_path / "jar" / "card.json").read_text() == "old"


def test_a_killed_step_leaves_no_artifact_and_the_next_attempt_is_not_disturbed(tmp_path: Path) -> None:
    script = """
        import sys, time
        from pathlib import Path
        from components.base.files import writing

        with writing(Path(sys.argv[1]), {"seed": 1}, "card.json") as work:
            (work / "half.bin").write_bytes(b"h")
            (work / "checkpoint" / "state.bin").write_bytes(b"s")
            print("writing", flush=True)
            time.sleep(60)
    """
    out = tmp_path / "jar"
    step = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script), str(out)], stdout=subprocess.PIPE)
    assert step.stdout is not None
    with step.stdout:
        assert step.stdout.readline() == b"writing\n"
        os.kill(step.pid, signal.SIGKILL)
        step.wait(10)
    assert not out.exists()
    assert attempt(out, {"seed": 1}, fail=False) == ["checkpoint/state.bin"]
    assert [entry.name for entry in out.iterdir()] == ["half.bin"]


def test_a_directory_whose_files_dvc_removed_is_written_again(tmp_path: Path) -> None:
    (tmp_path / "jar" / "plots").mkdir(parents=True)
    with writing(tmp_path / "jar", {}, CARD) as work:
        (work / CARD).write_text("new")
    assert (tmp_path / "jar" / CARD).read_text() == "new"


def test_a_directory_with_a_link_in_it_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "jar").mkdir()
    (tmp_path / "jar" / "link").symlink_to(tmp_path / "precious")
    with pytest.raises(UsageError, match="something else than an artifact"), writing(tmp_path / "jar", {}, CARD):
        pass


def observed(scenario: str, folder: Path) -> list[dict[str, Any]]:
    """What came of two writers at once, at every moment of the first."""
    command = [sys.executable, writers.__file__, scenario, str(folder)]
    seen: list[dict[str, Any]] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    assert len(seen) > 4
    return seen


def refused(told: str) -> bool:
    return "another process is writing it" in told


def test_of_two_at_once_the_second_is_refused_and_the_first_is_kept_wherever_they_meet(tmp_path: Path) -> None:
    seen = observed("meet", tmp_path)
    for each in seen:
        # Before the first has the lock and after it has given it back, both may write, one after the other.
        assert refused(each["second"]) or each["second"] == DONE, each
        assert each["first"] == DONE, each
        assert (each["card"], each["left"]) == ("A", []), each
    assert sum(refused(each["second"]) for each in seen) >= len(seen) - 2


@pytest.mark.long
def test_killed_anywhere_the_next_two_at_once_lose_nothing(tmp_path: Path) -> None:
    for each in observed("killed", tmp_path):
        assert DONE in each["told"], each
        assert all(told == DONE or refused(told) for told in each["told"]), each
        assert each["card"] in ("B", "C"), each
        assert each["left"] == [], each


def test_what_a_writer_has_finished_outlives_a_second_one_that_is_killed(tmp_path: Path) -> None:
    for each in observed("outlive", tmp_path):
        assert each["first"] == DONE or refused(each["first"]), each
        if each["first"] == DONE:
            assert each["card"] in ("A", "B"), each


@pytest.mark.parametrize("what", ["a file", "a link"])
def test_what_lies_in_the_place_of_the_work_directory_is_named_and_kept(tmp_path: Path, what: str) -> None:
    precious = tmp_path / "elsewhere" / "precious.zip"
    precious.parent.mkdir()
    precious.write_bytes(b"the only copy")
    work = tmp_path / ".jar.partial"
    work.symlink_to(precious.parent) if what == "a link" else work.write_bytes(b"a note")
    with pytest.raises(UsageError, match=r"\.jar\.partial: expected what a stopped step leaves"):
        attempt(tmp_path / "jar", {}, fail=False)
    assert precious.exists()
    assert work.is_symlink() or work.read_bytes() == b"a note"


def test_a_checkpoint_that_leads_elsewhere_is_not_gone_on_with(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        attempt(tmp_path / "jar", {}, fail=True)
    checkpoint = tmp_path / ".jar.partial" / CHECKPOINT
    checkpoint.rename(tmp_path / "elsewhere")
    checkpoint.symlink_to(tmp_path / "elsewhere")
    assert attempt(tmp_path / "jar", {}, fail=False) == []
    assert (tmp_path / "elsewhere" / "state.bin").exists()


def test_a_note_of_the_inputs_that_cannot_be_read_is_another_one(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        attempt(tmp_path / "jar", {}, fail=True)
    (tmp_path / ".jar.partial" / CHECKPOINT / INPUTS).write_bytes(b"\xff")
    assert attempt(tmp_path / "jar", {}, fail=False) == []


def test_a_file_that_many_write_at_once_is_whole_at_every_moment(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    texts = [letter * 300_000 for letter in "abcd"]
    write_text(file, texts[0])
    with ThreadPoolExecutor(4) as pool:
        writes = [pool.submit(write_text, file, text) for text in texts * 10]
        while not all(write.done() for write in writes):
            assert file.read_text() in texts
    assert [write.exception() for write in writes] == [None] * len(writes)
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV, errno.EPERM])
def test_a_place_that_cannot_be_replaced_is_refused_before_the_work(
    jar: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A mount point, a read-only layer of a container, somebody else's directory: the system says it to a rename."""
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self == jar:
            raise OSError(number, os.strerror(number), str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    told = rf"^{jar}: [^\n]*cannot be replaced when the work is done[^\n]*$"
    with pytest.raises(UsageError, match=told), writing(jar, {}, CARD):
        pytest.fail("the work began")
    assert (jar / CARD).read_text() == "old"


def test_a_link_to_nothing_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "jar").symlink_to("nowhere")
    with pytest.raises(UsageError, match="something else than an artifact"), writing(tmp_path / "jar", {}, CARD):
        pass


# What an earlier attempt left.


def test_work_of_other_inputs_is_thrown_away_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for seed in (1, 1, 2):
        with pytest.raises(InterruptedError):
            attempt(tmp_path / "jar", {"seed": seed}, fail=True)
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/jar: what an earlier attempt has done is of other inputs, or damaged; the work begins anew"
    ]


@pytest.mark.parametrize("damage", ["empty", "no text", "folder", "huge", "link"])
def test_work_whose_inputs_cannot_be_told_is_thrown_away_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    with pytest.raises(InterruptedError):
        attempt(tmp_path / "jar", {}, fail=True)
    said = tmp_path / ".jar.partial" / CHECKPOINT / INPUTS
    said.unlink()
    if damage == "folder":
        said.mkdir()
    elif damage == "link":
        said.symlink_to("/dev/zero")
    else:
        said.write_bytes({"empty": b"", "no text": b"\xff" * 64, "huge": b"0" * 5_000_000}[damage])
    assert attempt(tmp_path / "jar", {}, fail=False) == []
    (warning,) = (record.getMessage() for record in caplog.records)
    assert warning.endswith("the work begins anew")


def test_a_checkpoint_that_is_a_link_is_not_gone_on_with(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        attempt(tmp_path / "jar", {}, fail=True)
    here, elsewhere = tmp_path / ".jar.partial" / CHECKPOINT, tmp_path / "elsewhere"
    here.rename(elsewhere)
    here.symlink_to(elsewhere)
    assert attempt(tmp_path / "jar", {}, fail=False) == []
    assert sorted(path.name for path in elsewhere.iterdir()) == [INPUTS, "state.bin"]


def test_a_file_is_on_the_disk_before_it_has_its_name_and_an_artifact_before_it_has_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story: list[str] = []
    sync, replace, rename = os.fsync, Path.replace, Path.rename

    def note_sync(handle: int) -> None:
        story.append(f"sync {Path(f'/proc/self/fd/{handle}').readlink().name}")
        sync(handle)

    def note_replace(self: Path, target: Path) -> Path:
        story.append(f"replace {target.name}")
        return replace(self, target)

    def note_rename(self: Path, target: Path) -> Path:
        done = rename(self, target)
        story.append(f"rename {target.name}")
        return done

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_replace)
    monkeypatch.setattr(Path, "rename", note_rename)
    write_text(tmp_path / "a.json", "{}")
    assert re.fullmatch(r"sync \.a\.json\.[0-9a-f]+\.partial", story[0])
    assert story[1:] == ["replace a.json", f"sync {tmp_path.name}"]
    with writing(tmp_path / "jar", {}, CARD) as work:
        (work / "plots").mkdir()
        (work / "plots" / "a.png").write_bytes(b"a")
        (work / CARD).write_text("x")
        story.clear()
    place = story.index("rename jar")
    assert {"sync a.png", "sync plots", "sync card.json", "sync .jar.partial"} <= set(story[:place])
    assert story[place + 1] == f"sync {tmp_path.name}"
