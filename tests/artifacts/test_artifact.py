import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import seal_model

from components.artifacts.artifact import Artifact, Facts, Provenance
from components.artifacts.trained_model import TrainedModel
from components.base.errors import DataRefused, UsageError
from components.base.files import CHECKPOINT, json_sha256


class JarFacts(Facts):
    label: str
    sizes: tuple[int, ...] = ()
    share: float | None = None
    seconds: Provenance[float] = 1.5


FACTS = JarFacts(label="ä plum", sizes=(1, 2), share=0.1)


class Jar(Artifact[JarFacts]):
    FACTS = JarFacts
    STEP = "fill"
    CONTENT = ("*.bin",)


class Tin(Artifact[JarFacts]):
    FACTS = JarFacts
    STEP = "fill"


@pytest.fixture
def jar(tmp_path: Path) -> Path:
    """A sealed directory of two content files, one of them in a folder, and a page."""
    path = tmp_path / "jar"
    fill(path)
    Jar.seal(path, FACTS)
    return path


def fill(path: Path) -> None:
    (path / "inner").mkdir(parents=True)
    (path / "a.bin").write_bytes(b"aaaa")
    (path / "inner" / "b.bin").write_bytes(b"bb")
    (path / "page.html").write_text("<p>page</p>")


def change_card(path: Path, **changes: Any) -> None:
    card = json.loads((path / "card.json").read_text())
    (path / "card.json").write_text(json.dumps(card | changes, indent=2, ensure_ascii=False) + "\n")


def test_what_is_sealed_is_read_again(jar: Path) -> None:
    read = Jar.read(jar)
    assert read.facts == FACTS
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
    assert Jar.read(jar).digest == Jar.seal(jar, FACTS).digest
    assert name not in (jar / "card.json").read_text()


def test_what_changed_is_told_with_how_dvc_brings_it_back(jar: Path) -> None:
    (jar / "a.bin").write_bytes(b"other")
    with pytest.raises(DataRefused, match=r"Run `mura fill` again, or `dvc checkout -f`"):
        Jar.read(jar)
    change_card(jar, digest="0" * 64)
    with pytest.raises(DataRefused, match=r"run `mura fill` again, or `dvc checkout -f`"):
        Jar.read(jar)


def test_an_artifact_of_another_kind_is_refused_by_name(jar: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a Tin, found a Jar\. .* run `mura fill`"):
        Tin.read(jar)


@pytest.mark.parametrize("made", [True, False], ids=["no card", "no directory"])
def test_where_nothing_is_the_step_to_run_is_told(tmp_path: Path, made: bool) -> None:
    if made:
        (tmp_path / "jar").mkdir()
    with pytest.raises(UsageError, match=r"expected a Jar.*Run `mura fill`"):
        Jar.read(tmp_path / "jar")


CARDS = {
    "not JSON": b"{",
    "not UTF-8": b'{"kind": "\xff"}',
    "empty": b"",
    "no object": b"[1, 2]",
    "keys missing": b'{"kind": "Jar"}',
    "nested lists": b"[" * 200_000,
    "nested objects": b'{"format": 3, "facts": ' + b'{"a":' * 100_000,
}


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_a_card_that_cannot_be_read_is_refused_in_one_line(jar: Path, card: bytes) -> None:
    (jar / "card.json").write_bytes(card)
    with pytest.raises(DataRefused, match=r"card\.json: not a card this version can read") as refusal:
        Jar.read(jar)
    assert "\n" not in str(refusal.value)


CHANGES: dict[str, tuple[str, dict[str, Any]]] = {
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


@pytest.mark.parametrize("found", [1, 2, None, "3"])
def test_a_card_of_another_format_is_refused_before_all_else_and_says_what_to_run(jar: Path, found: Any) -> None:
    change_card(jar, format=found, more="of that format", files=[])
    with pytest.raises(DataRefused, match=rf"expected format 3, found {found}: .*Run `mura fill` again"):
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
    with pytest.raises(DataRefused, match="digest does not belong to its facts and files"):
        Jar.read(jar)


FORMS: dict[str, Callable[[str], str]] = {
    "another way to write a number": lambda text: text.replace("0.1", "0.1E0"),
    "digits that a number has no room for": lambda text: text.replace("0.1", "0.10000000000000000001"),
    "an entry twice": lambda text: text.replace('"label"', '"label": "a pear", "label"'),
    "other spaces": lambda text: text.replace("  ", " "),
    "an escape": lambda text: text.replace("ä", "\\u00e4"),
}


@pytest.mark.parametrize("change", FORMS.values(), ids=FORMS)
def test_a_card_that_says_the_same_in_another_form_has_changed(jar: Path, change: Callable[[str], str]) -> None:
    card = jar / "card.json"
    before = card.read_text()
    card.write_text(change(before))
    assert card.read_text() != before
    with pytest.raises(DataRefused, match=r"card\.json: changed since its step wrote it"):
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


def test_the_digest_does_not_depend_on_pages_and_provenance(jar: Path) -> None:
    before = Jar.read(jar).digest
    (jar / "page.html").write_text("<p>another day</p>")
    (jar / "new.txt").write_text("x")
    assert Jar.seal(jar, FACTS.model_copy(update={"seconds": 9.0})).digest == before


def test_the_digest_differs_with_a_fact_a_content_file_its_name_and_the_kind(jar: Path) -> None:
    digests = [Jar.read(jar).digest, Jar.seal(jar, FACTS.model_copy(update={"sizes": (1, 3)})).digest]
    (jar / "a.bin").write_bytes(b"aaab")
    digests.append(Jar.seal(jar, FACTS).digest)
    (jar / "a.bin").rename(jar / "z.bin")
    digests.append(Jar.seal(jar, FACTS).digest)
    (jar / "page.html").unlink()
    digests.append(Tin.seal(jar, FACTS).digest)
    assert len(set(digests)) == 5


def test_the_digest_is_the_same_wherever_the_artifact_lies(jar: Path) -> None:
    digest = Jar.read(jar).digest
    assert Jar.read(jar.rename(jar.with_name("elsewhere"))).digest == digest


def test_a_checkpoint_is_no_part_of_the_artifact(jar: Path) -> None:
    (jar / CHECKPOINT).mkdir()
    (jar / CHECKPOINT / "state.bin").write_bytes(b"half")
    assert Jar.read(jar).digest == Jar.seal(jar, FACTS).digest


def test_a_card_is_read_in_bounded_memory_however_large_it_is(jar: Path) -> None:
    # Sparse: it takes no room on the disk.
    os.truncate(jar / "card.json", 100 << 30)
    with pytest.raises(DataRefused, match=r"card\.json: not a card this version can read \(expected a file of at most"):
        Jar.read(jar)


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", "<b>a</b>", "$\\frac$", "", "A", "a" * 41, "a\n"])
def test_no_card_names_a_candidate_that_params_yaml_could_not(tmp_path: Path, name: str) -> None:
    model = seal_model(tmp_path / "model", "vgg16")
    card = json.loads((model.path / "card.json").read_text())
    card["facts"]["candidate"] = name
    card["digest"] = TrainedModel._digest(model.path, model.facts.model_copy(update={"candidate": name}), {})
    card["checksum"] = json_sha256({key: value for key, value in card.items() if key != "checksum"})
    (model.path / "card.json").write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n")
    with pytest.raises(DataRefused, match="not a card this version can read"):
        TrainedModel.read(model.path)
