"""Flags are read from a step's signature."""

from pathlib import Path

import pytest
import yaml

from components.artifacts.manifest import Manifest, ValidManifest
from components.base.errors import (
    DataChanged,
    DataRefused,
    ExitCode,
    GateRefused,
    MuraError,
    OutsideFailed,
    RunFailed,
    ServiceUnreachable,
    UsageError,
    classified,
)
from components.cli import main, steps
from components.params.validate import ValidateParams

ROOT = Path(__file__).parents[2]


def step(
    manifest: Manifest, others: list[Manifest], seed: int, params: ValidateParams, out: Path, like: Manifest | None
) -> ValidManifest:
    raise NotImplementedError


def test_a_signature_says_what_may_be_repeated_and_what_left_out() -> None:
    told = {each.flag: (each.kind, each.many, each.optional) for each in steps.inputs_of(step)}
    assert told == {
        "--manifest": (Manifest, False, False),
        "--other": (Manifest, True, False),
        "--seed": (int, False, False),
        "--params": (ValidateParams, False, False),
        "--like": (Manifest, False, True),
    }


def test_what_may_be_left_out_is_no_required_flag() -> None:
    flags = {option.opts[0]: option for option in steps.command("validate").params}
    assert flags["--manifest"].required
    assert not flags["--reference"].required
    assert flags["--reference"].help.endswith("Optional.")


def test_a_path_is_repeated_for_every_candidate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    document["train"]["candidates"] = {"wide": {"architecture": "vgg16"}, "narrow": {"architecture": "vgg16"}}
    document["stress"]["candidates"] = []
    document["ensembles"] = {}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    monkeypatch.chdir(tmp_path)
    words = ["register", "--model", "m/{candidate}", "--evaluation", "e/{candidate}", "--out", "out"]
    assert main.run(words) == 2
    assert "m/wide: expected a TrainedModel" in capsys.readouterr().err
    (tmp_path / "params.yaml").rename(tmp_path / "other.yaml")
    assert main.run([*words, "--params", "other.yaml:register"]) == 2
    assert "m/wide: expected a TrainedModel" in capsys.readouterr().err
    assert main.run(words) == 2
    assert "params.yaml: no such file" in capsys.readouterr().err


def test_a_path_of_a_candidate_needs_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    shards = "--shards", "s", "--params", str(ROOT / "params.yaml:train.vgg16")
    assert main.run(["train", *shards, "--out", "m/{candidate}"]) == 2
    assert "--out m/{candidate}: which candidate? Add `--candidate NAME`." in capsys.readouterr().err
    manifest = "--shards", "s", "--manifest", "v"
    assert main.run(["evaluate", *manifest, "--model", "m/{candidate}", "--out", "e"]) == 2
    assert "--model m/{candidate}: which candidate? Add `--candidate NAME`." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("hidden", "asked"),
    [
        ("/proc/.x.png.partial", "/proc/x.png"),
        ("/proc/.x.png.0123456789abcdef.partial", "/proc/x.png"),
        ("/a/.x.1.partial", "/a/x.1"),
        ("/a/.out.lock", "/a/out"),
        (".p.yaml.partial", "p.yaml"),
        ("/a/.out.partial/checkpoint/1", "/a/out"),
        ("/a/.out.discarded", "/a/out"),
    ],
)
def test_a_hidden_name_is_not_told(hidden: str, asked: str) -> None:
    found = classified(PermissionError(13, "Permission denied", hidden))
    assert str(found) == f"{asked}: cannot be written (Permission denied). Name another file or directory."


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UsageError("a"), 2, "a"),
        (DataRefused("a"), 3, "a"),
        (DataChanged("a"), 3, "a"),
        (GateRefused("a"), 4, "a"),
        (ServiceUnreachable("a"), 5, "a"),
        (OutsideFailed("a"), 5, "a"),
        (RunFailed("a"), 6, "a"),
        (FileNotFoundError(2, "No such file", "x"), 2, "x: No such file"),
        (PermissionError(13, "Permission denied", "x"), 2, "x: Permission denied"),
        (OSError(28, "No space left on device", "x"), 5, "x: No space left on device"),
        (OSError(5, "Input/output error"), 5, "Input/output error"),
        (MemoryError(), 5, "memory"),
        (ImportError("libx.so: failed to map segment from shared object"), 5, "memory"),
        (RuntimeError("can't start new thread"), 5, "memory"),
    ],
)
def test_the_exit_code_says_who_must_act(error: Exception, code: int, line: str) -> None:
    found = classified(error)
    assert found is not None
    assert found.exit_code == code
    assert line in str(found)


@pytest.mark.parametrize("error", [ValueError("a"), OSError("a"), KeyError("a")])
def test_everything_else_is_a_bug(error: Exception) -> None:
    assert classified(error) is None


def test_only_bugs_end_with_one() -> None:
    def below(kind: type[MuraError]) -> list[type[MuraError]]:
        return [each for sub in kind.__subclasses__() for each in (sub, *below(sub))]

    assert ExitCode.BUG not in {kind.exit_code for kind in below(MuraError) if kind.__module__.startswith("components")}


@pytest.mark.parametrize(
    "words",
    [
        ["phantom", "--out", "~/x.zip"],
        ["phantom", "--out=~/x.zip"],
        ["phantom", "--out", "x.zip", "--sheet", "~/x.png"],
        ["ingest", "--archive", "~/x.zip", "--out", "x"],
        ["ingest", "--archive", "~somebody/x.zip", "--out", "x"],
        ["import", "~/x.zip"],
        ["settings", "--out", "~"],
        ["pipeline", "submit", "--archive", "~/x.zip"],
    ],
)
def test_a_tilde_is_not_taken_for_the_name_of_a_directory(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.run(words) == 2
    assert "`~` is not expanded here; write the whole path" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["s3:/bucket/x.zip", "s3:bucket/x.zip", "S3://bucket/x.zip", "s3:///bucket/x.zip"])
def test_an_address_with_too_few_slashes_is_told_how_to_write_it(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.run(["ingest", "--archive", place, "--params", "{}", "--seed", "1", "--out", "x"]) == 2
    told = capsys.readouterr().err
    assert ("s3://bucket/x.zip" in told) or ("expected s3://bucket/key" in told), told
