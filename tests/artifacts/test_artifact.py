import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.artifacts.artifact import Artifact, Facts
from components.base.errors import DataRefused, UsageError
from components.base.files import CHECKPOINT, json_sha256, writing


class JarFacts(Facts):
    label: str
    sizes: tuple[int, ...] = ()
    share: float | None = None


class Jar(Artifact[JarFacts]):
    FACTS = JarFacts
    CONTENT = ("*.bin",)


class Tin(Artifact[JarFacts]):
    FACTS = JarFacts


@pytest.fixture
def jar(tmp_path: Path) -> Path:
    """A sealed directory of two content files, one of them in a folder, and a page."""
    path = tmp_path / "jar"
    fill(path)
    Jar.seal(path, JarFacts(label="ä plum", sizes=(1, 2), share=0.1))
    return path


def fill(path: Path) -> None:
    (path / "inner").mkdir(parents=True)
    (path / "a.bin").write_bytes(b"aaaa")
    (path / "inner" / "b.bin").write_bytes(b"bb")
    (path / "page.html").write_text("<p>page</p>")


def change_card(path: Path, **changes: Any) -> None:
    card = json.loads((path / "card.json").read_text())
    (path / "card.json").write_text(json.dumps(card | changes))


def attempt(out: Path, inputs: dict[str, Any], fail: bool) -> list[str]:
    """Leave a half-written file and a checkpoint; what the attempt found, to begin with."""
    with writing(out, inputs) as work:
        found = sorted(path.relative_to(work).as_posix() for path in work.rglob("*.bin"))
        (work / "half.bin").write_bytes(b"h")
        (work / CHECKPOINT / "state.bin").write_bytes(b"s")
        if fail:
            raise InterruptedError
    return found


def test_what_is_sealed_is_read_again(jar: Path) -> None:
    read = Jar.read(jar)
    assert read.facts == JarFacts(label="ä plum", sizes=(1, 2), share=0.1)
    assert read.path == jar


def test_the_card_names_every_file_with_its_size_and_checksum(jar: Path) -> None:
    files = json.loads((jar / "card.json").read_text())["files"]
    assert set(files) == {"a.bin", "inner/b.bin", "page.html"}
    assert files["inner/b.bin"] == {"bytes": 2, "sha256": hashlib.sha256(b"bb").hexdigest()}


FAULTS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "missing": ("a.bin", lambda jar: (jar / "a.bin").unlink()),
    "missing in a folder": ("inner/b.bin", lambda jar: (jar / "inner" / "b.bin").unlink()),
    "extra": ("inner/c.bin", lambda jar: (jar / "inner" / "c.bin").write_bytes(b"")),
    "changed, same size": ("a.bin", lambda jar: (jar / "a.bin").write_bytes(b"aaab")),
    "truncated": ("a.bin", lambda jar: (jar / "a.bin").write_bytes(b"aa")),
    "changed, no content": ("page.html", lambda jar: (jar / "page.html").write_text("<p>other</p>")),
    "a directory instead": ("a.bin", lambda jar: ((jar / "a.bin").unlink(), (jar / "a.bin").mkdir())),
}


@pytest.mark.parametrize(("name", "fault"), FAULTS.values(), ids=FAULTS)
def test_a_file_that_is_not_as_the_card_says_is_named(jar: Path, name: str, fault: Callable[[Path], object]) -> None:
    fault(jar)
    with pytest.raises(DataRefused, match=f"{name}: ") as refusal:
        Jar.read(jar)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", [".gitignore", ".DS_Store", "inner/.keep", ".ipynb_checkpoints/a.bin"])
def test_dot_files_are_none_of_the_artifacts(jar: Path, name: str) -> None:
    (jar / name).parent.mkdir(exist_ok=True)
    (jar / name).write_text("*")
    assert Jar.read(jar).digest == Jar.seal(jar, JarFacts(label="x")).digest
    assert name not in (jar / "card.json").read_text()


def test_an_artifact_of_another_kind_is_refused_by_name(jar: Path) -> None:
    with pytest.raises(UsageError, match="expected a Tin, found a Jar"):
        Tin.read(jar)


@pytest.mark.parametrize("made", [True, False], ids=["no card", "no directory"])
def test_where_nothing_is_the_step_to_run_is_told(tmp_path: Path, made: bool) -> None:
    if made:
        (tmp_path / "jar").mkdir()
    with pytest.raises(UsageError, match=r"expected a Jar.*Run the step that makes it"):
        Jar.read(tmp_path / "jar")


CARDS = {
    "not JSON": b"{",
    "not UTF-8": b'{"kind": "\xff"}',
    "empty": b"",
    "no object": b"[1, 2]",
    "keys missing": b'{"kind": "Jar"}',
}


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_a_card_that_cannot_be_read_is_refused_in_one_line(jar: Path, card: bytes) -> None:
    (jar / "card.json").write_bytes(card)
    with pytest.raises(DataRefused, match=r"card\.json: not a card this version can read") as refusal:
        Jar.read(jar)
    assert "\n" not in str(refusal.value)


CHANGES: dict[str, tuple[str, dict[str, Any]]] = {
    "a later format": ("format", {"format": 2}),
    "no format": ("format", {"format": None}),
    "an unknown key": ("colour", {"colour": "red"}),
    "an unknown fact": ("weight", {"facts": {"label": "x", "weight": 1}}),
    "a fact missing": ("label", {"facts": {}}),
    "files as a list": ("files", {"files": ["a.bin"]}),
    "a file without a checksum": ("files.a.bin.sha256", {"files": {"a.bin": {"bytes": 4}}}),
}


@pytest.mark.parametrize(("place", "change"), CHANGES.values(), ids=CHANGES)
def test_a_card_of_another_version_is_refused(jar: Path, place: str, change: dict[str, Any]) -> None:
    change_card(jar, **change)
    with pytest.raises(DataRefused, match=rf"card\.json: not a card this version can read \({place}: "):
        Jar.read(jar)


@pytest.mark.parametrize("change", [{"digest": "0" * 64}, {"facts": {"label": "a pear"}}, {"checksum": "0" * 64}])
def test_a_card_that_changed_is_not_believed(jar: Path, change: dict[str, Any]) -> None:
    change_card(jar, **change)
    with pytest.raises(DataRefused, match=r"card\.json: changed since its step wrote it"):
        Jar.read(jar)


def test_every_flipped_bit_of_a_card_is_found(jar: Path) -> None:
    card = jar / "card.json"
    whole = card.read_bytes()
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        card.write_bytes(flipped)
        with pytest.raises((DataRefused, UsageError), match=r"card\.json|expected a Jar, found a"):
            Jar.read(jar)


def test_a_digest_that_is_not_its_files_is_refused(jar: Path) -> None:
    card = json.loads((jar / "card.json").read_text()) | {"digest": "0" * 64}
    rest = {key: value for key, value in card.items() if key != "checksum"}
    change_card(jar, digest="0" * 64, checksum=json_sha256(rest))
    with pytest.raises(DataRefused, match="digest does not belong"):
        Jar.read(jar)


def test_all_faults_are_told_at_once(jar: Path) -> None:
    assert Jar.faults(jar) == []
    (jar / "a.bin").write_bytes(b"aaab")
    (jar / "page.html").unlink()
    (jar / "c.bin").write_bytes(b"c")
    told = Jar.faults(jar)
    assert [name for fault in told for name in ("a.bin", "c.bin", "page.html") if f"{name}: " in fault] == [
        "c.bin",
        "page.html",
        "a.bin",
    ]


def test_the_digest_depends_on_the_content_files_alone(jar: Path) -> None:
    before = Jar.read(jar).digest
    (jar / "page.html").write_text("<p>another day</p>")
    (jar / "new.txt").write_text("x")
    assert Jar.seal(jar, JarFacts(label="other")).digest == before


def test_the_digest_differs_with_a_content_file_its_name_and_the_kind(jar: Path) -> None:
    digests = [Jar.read(jar).digest]
    (jar / "a.bin").write_bytes(b"aaab")
    digests.append(Jar.seal(jar, JarFacts(label="x")).digest)
    (jar / "a.bin").rename(jar / "z.bin")
    digests.append(Jar.seal(jar, JarFacts(label="x")).digest)
    (jar / "page.html").unlink()
    digests.append(Tin.seal(jar, JarFacts(label="x")).digest)
    assert len(set(digests)) == 4


def test_the_digest_is_the_same_wherever_the_artifact_lies(jar: Path) -> None:
    digest = Jar.read(jar).digest
    assert Jar.read(jar.rename(jar.with_name("elsewhere"))).digest == digest


def test_a_checkpoint_is_no_part_of_the_artifact(jar: Path) -> None:
    (jar / CHECKPOINT).mkdir()
    (jar / CHECKPOINT / "state.bin").write_bytes(b"half")
    assert Jar.read(jar).digest == Jar.seal(jar, JarFacts(label="x")).digest


def test_the_artifact_stands_when_the_block_ends(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "jar"
    with writing(out, {"seed": 1}) as work:
        assert [entry.name for entry in work.iterdir()] == [CHECKPOINT]
        (work / "a.bin").write_bytes(b"a")
        assert not out.exists()
        Jar.seal(work, JarFacts(label="x"))
    assert Jar.read(out).facts.label == "x"
    assert [entry.name for entry in out.parent.iterdir()] == ["jar"]


def test_an_artifact_that_was_there_is_replaced_whole(jar: Path) -> None:
    with writing(jar, {}) as work:
        (work / "new.bin").write_bytes(b"n")
        assert Jar.read(jar).facts.label == "ä plum"
        Jar.seal(work, JarFacts(label="new"))
    assert {entry.name for entry in jar.iterdir()} == {"card.json", "new.bin"}
    assert [entry.name for entry in jar.parent.iterdir()] == ["jar"]


def test_a_step_that_fails_leaves_what_was_there(jar: Path) -> None:
    with pytest.raises(InterruptedError):
        attempt(jar, {}, fail=True)
    assert Jar.read(jar).facts.label == "ä plum"


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
    with pytest.raises(UsageError, match="something else than an artifact"), writing(tmp_path / out, {}):
        pass
    assert precious.read_bytes() == b"the only copy"


def test_two_processes_do_not_write_the_same_artifact(tmp_path: Path) -> None:
    with writing(tmp_path / "jar", {"seed": 1}) as work:
        (work / "half.bin").write_bytes(b"h")
        with pytest.raises(UsageError, match="another process"), writing(tmp_path / "jar", {"seed": 2}):
            pass
        assert (work / "half.bin").exists()


def test_killed_between_the_renames_the_old_artifact_comes_back(tmp_path: Path) -> None:
    old = tmp_path / ".jar.discarded"
    old.mkdir()
    (old / "card.json").write_text("old")
    with pytest.raises(RuntimeError, match="stop"), writing(tmp_path / "jar", {}):
        raise RuntimeError("stop")
    assert (tmp_path / "jar" / "card.json").read_text() == "old"


def test_a_killed_step_leaves_no_artifact_and_the_next_attempt_is_not_disturbed(tmp_path: Path) -> None:
    script = """
        import sys, time
        from pathlib import Path
        from components.base.files import writing

        with writing(Path(sys.argv[1]), {"seed": 1}) as work:
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
    with pytest.raises(UsageError):
        Jar.read(out)
    assert attempt(out, {"seed": 1}, fail=False) == ["checkpoint/state.bin"]
    assert [entry.name for entry in out.iterdir()] == ["half.bin"]
