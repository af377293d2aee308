"""Parts that several machines made, and the whole of them."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import object_store
import pandas as pd
import pytest
from miniature import archive, images, manifest, picture, png, prove, use_cores, write_directory, write_zip

from components.archive import s3
from components.archive.archive import Archive
from components.artifacts.manifest import TABLE, Manifest
from components.artifacts.parts import ManifestPart, ShardsPart
from components.artifacts.shards import Shards
from components.cli import main

pytestmark = pytest.mark.long

MANY = len(images()) + 3
PARAMS = '{"tuning_fraction": 0.25}'
SECOND = ("--params", PARAMS, "--part", "2/3", "--out")
SIZES = '{"image_size": 32, "images_per_shard": 5}'
OVERLAY = "study,old,new,source,reason\ntrain/XR_ELBOW/patient00001/study1_negative,0,1,a reader,a plate\n"


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    use_cores(1, monkeypatch)
    for name in ("SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an archive, an overlay, and what one run makes of them."""
    place = tmp_path_factory.mktemp("made")
    files = archive()
    damaged = next(name for name in files if name.endswith(".png"))
    write_zip(place / "a.zip", files)
    # A picture that cannot be decoded, and one that is not there: rows of their own.
    gone = sorted(name for name in files if name.endswith(".png"))[-1]
    bad = {name: b"no image" if name == damaged else content for name, content in files.items() if name != gone}
    write_zip(place / "bad.zip", bad | {"MURA-v1.1/readme.txt": b"", "MURA-v1.1/._x.png": b""})
    (place / "overlay.csv").write_text(OVERLAY)
    with pytest.MonkeyPatch.context() as patch:
        use_cores(1, patch)
        prove(manifest(place / "a.zip", place / "plain"), place / "valid")
        for name in ("a", "bad"):
            assert ingest(place, f"{name}.zip", place / name) == 0
        assert shard(place, place / "shards") == 0
    return place


def ingest(place: Path, name: str, out: Path, *more: str) -> int:
    words = ["ingest", "--archive", str(place / name), "--overlay", str(place / "overlay.csv"), "--seed", "1"]
    more = more if "--params" in more else (*more, "--params", PARAMS)
    return main.run([*words, *more, "--out", str(out)])


def shard(place: Path, out: Path, *more: str, name: str = "a.zip", of: str = "valid") -> int:
    words = ["shard", "--archive", str(place / name), "--manifest", str(place / of)]
    more = more if "--params" in more else (*more, "--params", SIZES)
    return main.run([*words, *more, "--out", str(out)])


def ingest_parts(place: Path, count: int, folder: Path, name: str = "a.zip") -> list[str]:
    for number in range(1, count + 1):
        assert ingest(place, name, folder / "{part}", "--part", f"{number}/{count}") == 0
    return [str(folder / str(number)) for number in range(1, count + 1)]


def shard_parts(place: Path, count: int, folder: Path) -> list[str]:
    for number in range(1, count + 1):
        assert shard(place, folder / "{part}", "--part", f"{number}/{count}") == 0
    return [str(folder / str(number)) for number in range(1, count + 1)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("count", [1, 2, 5, 16, MANY])
@pytest.mark.parametrize("name", ["a", "bad"])
def test_the_manifest_of_all_parts_is_that_of_one_run_to_the_byte(
    made: Path, tmp_path: Path, count: int, name: str
) -> None:
    parts = ingest_parts(made, count, tmp_path / "parts", f"{name}.zip")
    archive = ["--archive", str(made / f"{name}.zip")]
    assert main.run(["merge", *reversed(parts), *archive, "--out", str(tmp_path / "whole")]) == 0
    assert contents(tmp_path / "whole") == contents(made / name)
    assert Manifest.read(tmp_path / "whole").digest == Manifest.read(made / name).digest


@pytest.mark.parametrize("count", [1, 2, 5, 16, 40])
def test_the_shards_of_all_parts_are_those_of_one_run_to_the_byte(made: Path, tmp_path: Path, count: int) -> None:
    parts = shard_parts(made, count, tmp_path / "parts")
    assert main.run(["merge", *reversed(parts), "--out", str(tmp_path / "whole")]) == 0
    assert contents(tmp_path / "whole") == contents(made / "shards")
    assert Shards.read(tmp_path / "whole").records().equals(Shards.read(made / "shards").records())


def test_a_directory_in_parts_gives_the_manifest_of_the_zip(made: Path, tmp_path: Path) -> None:
    write_directory(tmp_path / "a.zip", archive())
    parts = []
    for number in (1, 2, 3):
        words = ["ingest", "--archive", str(tmp_path / "a.zip"), "--overlay", str(made / "overlay.csv"), "--seed", "1"]
        words += ["--params", PARAMS, "--part", f"{number}/3", "--out", str(tmp_path / str(number))]
        assert main.run(words) == 0
        parts.append(str(tmp_path / str(number)))
    assert main.run(["merge", *parts, "--archive", str(tmp_path / "a.zip"), "--out", str(tmp_path / "whole")]) == 0
    assert Manifest.read(tmp_path / "whole").digest == Manifest.read(made / "a").digest


def test_only_chosen_body_parts_are_in_parts_of_them(made: Path, tmp_path: Path) -> None:
    chosen = '{"tuning_fraction": 0.25, "body_parts": ["elbow", "wrist"]}'
    assert ingest(made, "a.zip", tmp_path / "whole", "--params", chosen) == 0
    for number in (1, 2):
        assert ingest(made, "a.zip", tmp_path / str(number), "--part", f"{number}/2", "--params", chosen) == 0
    words = [str(tmp_path / "1"), str(tmp_path / "2"), "--archive", str(made / "a.zip"), "--out", str(tmp_path / "m")]
    assert main.run(["merge", *words]) == 0
    assert contents(tmp_path / "m") == contents(tmp_path / "whole")


def test_an_array_fills_in_which_part_it_is(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    assert ingest(made, "a.zip", tmp_path / "{part}", "--part", "auto/2") == 0
    assert ManifestPart.read(tmp_path / "2").facts.part == 2


def test_a_part_does_not_read_the_images_of_others(made: Path, tmp_path: Path) -> None:
    """Damaged bytes of other images do not show, and the table of contents is the same."""
    files = archive()
    whole = (made / "a.zip").read_bytes()
    names = sorted(name for name in files if name.endswith(".png"))
    for name in names[len(names) // 2 :]:
        whole = whole.replace(files[name], b"\0" * len(files[name]))
    (tmp_path / "a.zip").write_bytes(whole)
    shutil.copy(made / "overlay.csv", tmp_path)
    assert ingest(tmp_path, "a.zip", tmp_path / "1", "--part", "1/2") == 0
    assert ingest(tmp_path, "a.zip", tmp_path / "2", "--part", "2/2") == 0
    problems = [ManifestPart.read(tmp_path / name) for name in ("1", "2")]
    tables = [pd.read_parquet(part.path / TABLE) for part in problems]
    assert tables[0]["problem"].isna().all()
    assert tables[1]["problem"].str.contains("wrong CRC-32").all()


def test_of_a_zip_on_s3_a_part_fetches_its_share(bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = images(train=60, valid=10)
    noise = {name: os.urandom(40_000) for name in names}
    path = write_zip(bucket / "a.zip", archive(names) | noise)
    size = path.stat().st_size
    with object_store.proxied(s3.endpoint()) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
        words = ["--archive", "s3://bucket/a.zip", "--seed", "1", "--params", PARAMS, "--part", "2/8"]
        assert main.run(["ingest", *words, "--out", str(tmp_path / "2")]) == 0
        # Images, the table of contents, the lists.
        assert size / 8 < proxy.fetched < size / 8 + 600_000


def test_a_part_that_was_killed_and_run_again_is_the_same(made: Path, tmp_path: Path) -> None:
    """What SIGKILL leaves: a work directory, with files in its checkpoint, and no part."""
    parts = shard_parts(made, 2, tmp_path / "parts")
    inputs = "inputs.sha256"
    whole, work = Path(parts[1]), tmp_path / "parts" / ".2.partial"
    (work / "checkpoint").mkdir(parents=True)
    name = next(iter(ShardsPart.read(whole).facts.files))
    (work / "checkpoint" / name).write_bytes((whole / name).read_bytes()[:1000])
    (work / "checkpoint" / inputs).write_text("0" * 64)
    whole.rename(tmp_path / "before")
    assert main.run(["merge", *parts, "--out", str(tmp_path / "whole")]) == 3
    assert shard(made, whole, "--part", "2/2") == 0
    assert contents(whole) == contents(tmp_path / "before")
    assert main.run(["merge", *parts, "--out", str(tmp_path / "whole")]) == 0
    assert contents(tmp_path / "whole") == contents(made / "shards")


Parts = dict[str, list[str]]


@pytest.fixture
def parts(made: Path, tmp_path: Path) -> Parts:
    return {
        "manifest": ingest_parts(made, 3, tmp_path / "manifest"),
        "shards": shard_parts(made, 3, tmp_path / "shards"),
    }


def merged(made: Path, of: str, parts: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The refusal of these parts."""
    archive = ["--archive", str(made / "a.zip")] if of == "manifest" else []
    capsys.readouterr()
    out = Path(parts[0]).parents[1] / "whole"
    assert main.run(["merge", *parts, *archive, "--out", str(out)]) == 3
    assert not out.exists()
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("of", ["manifest", "shards"])
def test_a_missing_part_is_refused_by_name(
    made: Path, parts: Parts, capsys: pytest.CaptureFixture[str], of: str
) -> None:
    first, second, third = parts[of]
    assert "missing: part 2/3." in merged(made, of, [first, third], capsys)
    assert "missing: parts 1/3, 2/3." in merged(made, of, [third], capsys)
    shutil.rmtree(second)
    assert f"{second}: expected a " in merged(made, of, parts[of], capsys)
    Path(second).mkdir()
    assert f"{second}: expected a " in merged(made, of, [second, first, third], capsys)


@pytest.mark.parametrize("of", ["manifest", "shards"])
def test_a_doubled_part_is_refused_by_name(
    made: Path, parts: Parts, capsys: pytest.CaptureFixture[str], of: str
) -> None:
    again = f"{parts[of][1]}-again"
    shutil.copytree(parts[of][1], again)
    assert f"part 2/3 is there twice: {parts[of][1]} and {again}" in merged(made, of, [*parts[of], again], capsys)


@pytest.mark.parametrize("of", ["manifest", "shards"])
def test_a_tampered_part_is_refused_by_name(
    made: Path, parts: Parts, capsys: pytest.CaptureFixture[str], of: str
) -> None:
    for name in contents(Path(parts[of][1])):
        file = Path(parts[of][1]) / name
        whole = file.read_bytes()
        file.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        assert str(file) in merged(made, of, parts[of], capsys)
        file.write_bytes(whole)


def test_parts_of_shards_are_no_parts_of_a_manifest(
    made: Path, parts: Parts, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = [*parts["manifest"][:2], parts["shards"][2]]
    assert f"{mixed[2]}: expected a ManifestPart" in merged(made, "manifest", mixed, capsys)
    assert "expected a ManifestPart" in merged(made, "manifest", [str(made / "plain")], capsys)


def otherwise_of(place: Path, folder: Path, files: dict[str, bytes]) -> Path:
    """A directory like `made` with another archive."""
    folder.mkdir()
    shutil.copy(place / "overlay.csv", folder)
    write_zip(folder / "a.zip", files)
    return folder


OTHER_INGEST: dict[str, tuple[Callable[[Path, Path], int], str]] = {
    "another archive": (
        lambda made, out: ingest(
            otherwise_of(made, out.parent / "else", archive() | {images()[0]: png_of(99)}),
            "a.zip",
            out,
            "--part",
            "2/3",
        ),
        "another archive: the tables of contents differ",
    ),
    "another name": (
        lambda made, out: (
            shutil.copy(made / "a.zip", out.parent / "b.zip"),
            shutil.copy(made / "overlay.csv", out.parent),
            ingest(out.parent, "b.zip", out, "--part", "2/3"),
        )[-1],
        "archive 'b.zip', not 'a.zip'",
    ),
    "another seed": (
        lambda made, out: main.run(
            [
                "ingest",
                "--archive",
                f"{made}/a.zip",
                "--overlay",
                f"{made}/overlay.csv",
                "--seed",
                "2",
                *SECOND,
                str(out),
            ]
        ),
        "another seed",
    ),
    "no overlay": (
        lambda made, out: main.run(["ingest", "--archive", f"{made}/a.zip", "--seed", "1", *SECOND, str(out)]),
        "overlay_digest None, not ",
    ),
    "other parameters": (
        lambda made, out: ingest(made, "a.zip", out, "--part", "2/3", "--params", '{"tuning_fraction": 0.3}'),
        "tuning_fraction 0.3, not 0.25",
    ),
    "another number of parts": (
        lambda made, out: ingest(made, "a.zip", out, "--part", "2/4"),
        "another number of parts",
    ),
}
OTHER_SHARD: dict[str, tuple[Callable[[Path, Path], int], str]] = {
    "another archive": (
        lambda made, out: (
            otherwise_of(made, out.parent / "else", archive() | {"MURA-v1.1/more.txt": b""}),
            shutil.copytree(made / "valid", out.parent / "else" / "valid"),
            shard(out.parent / "else", out, "--part", "2/3"),
        )[-1],
        "another archive: the tables of contents differ",
    ),
    "another manifest": (
        lambda made, out: (
            prove(Manifest.read(made / "plain"), out.parent / "valid", relabelled),
            (out.parent / "a.zip").symlink_to(made / "a.zip"),
            shard(out.parent, out, "--part", "2/3"),
        )[-1],
        "another manifest",
    ),
    "other parameters": (
        lambda made, out: shard(made, out, "--part", "2/3", "--params", '{"image_size": 33, "images_per_shard": 5}'),
        "image_size 33, not 32",
    ),
    "another number of parts": (lambda made, out: shard(made, out, "--part", "2/4"), "another number of parts"),
}


def png_of(seed: int) -> bytes:
    return png(picture(seed))


def relabelled(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(abnormal=1 - table["abnormal"])


@pytest.mark.parametrize(
    ("of", "how"), [*(("manifest", how) for how in OTHER_INGEST), *(("shards", how) for how in OTHER_SHARD)]
)
def test_a_foreign_part_is_refused_by_name(
    made: Path, parts: Parts, tmp_path: Path, capsys: pytest.CaptureFixture[str], of: str, how: str
) -> None:
    make, reason = (OTHER_INGEST if of == "manifest" else OTHER_SHARD)[how]
    foreign = tmp_path / "foreign" / "2"
    foreign.parent.mkdir()
    assert make(made, foreign) == 0
    told = merged(made, of, [str(foreign), parts[of][0], parts[of][2]], capsys)
    assert f"{foreign}, part 2/" in told
    assert reason in told


@pytest.mark.parametrize("of", ["manifest", "shards"])
def test_a_part_made_by_other_code_is_refused_by_name(
    made: Path, parts: Parts, capsys: pytest.CaptureFixture[str], of: str
) -> None:
    kind = ManifestPart if of == "manifest" else ShardsPart

    def with_other_code(path: str) -> None:
        part = kind.read(Path(path))
        origin = part.facts.origin.model_copy(update={"code": "0" * 64})
        kind.seal(part.path, part.facts.model_copy(update={"origin": origin}))

    with_other_code(parts[of][1])
    told = merged(made, of, parts[of], capsys)
    assert f"{parts[of][1]}, part 2/3" in told
    assert "made with other code" in told
    for path in (parts[of][0], parts[of][2]):
        with_other_code(path)
    assert "made by other code than this one" in merged(made, of, parts[of], capsys)


def test_the_archive_of_a_merge_is_the_one_of_its_parts(
    made: Path, parts: Parts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_zip(tmp_path / "a.zip", archive() | {"MURA-v1.1/more.txt": b""})
    words = ["merge", *parts["manifest"], "--archive", str(tmp_path / "a.zip"), "--out", str(tmp_path / "whole")]
    assert main.run(words) == 3
    assert f"{tmp_path / 'a.zip'}: not the archive that the parts were made from" in capsys.readouterr().err


def test_a_merge_is_told_what_it_lacks(parts: Parts, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["merge", *parts["manifest"], "--out", str(tmp_path / "whole")]) == 2
    assert "parts of a manifest need --archive" in capsys.readouterr().err
    assert main.run(["merge", *parts["shards"], "--archive", "a.zip", "--out", str(tmp_path / "whole")]) == 2
    assert "parts of shards need no archive" in capsys.readouterr().err
    assert main.run(["merge", "--out", str(tmp_path / "whole")]) == 2


def test_a_step_without_parts_has_no_such_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["validate", "--part", "1/2", "--out", "out"]) == 2
    assert "--part" in capsys.readouterr().err


def test_merged_parts_go_on_in_dvc(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the settings of a run, `mura merge` writes the record that the next stage asks for."""
    root = Path(__file__).parents[2]
    monkeypatch.chdir(tmp_path)
    params = (root / "params.yaml").read_text().replace("data/phantom.zip", str(made / "a.zip"))
    Path("params.yaml").write_text(params.replace("data/overlay.csv", str(made / "overlay.csv")))
    assert main.run(["settings", "--out", "settings"]) == 0
    for number in (1, 2):
        words = ["ingest", "--settings", "settings", "--part", f"{number}/2", "--out", "parts/{part}"]
        assert main.run(words) == 0
    # As a shell gives `parts/*`: the records of the parts are among them.
    files = sorted(str(path) for path in Path("parts").glob("[!.]*"))
    assert files == ["parts/1", "parts/1.made.json", "parts/2", "parts/2.made.json"]
    words = ["merge", *files, "--archive", str(made / "a.zip"), "--settings", "settings"]
    assert main.run([*words, "--out", "manifest"]) == 0
    record = json.loads(Path("manifest.made.json").read_text())
    assert record["digest"] == Manifest.read(Path("manifest")).digest
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("fraction: 0.25", "fraction: 0.2"))
    assert main.run(["settings", "--out", "settings"]) == 0
    assert main.run([*words, "--out", "manifest"]) == 3
    assert "tuning_fraction" in capsys.readouterr().err


def test_more_files_than_the_limit_are_a_choice(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = '{"tuning_fraction": 0.25, "max_members": %d}'
    files = len(list(Archive.read(made / "a.zip").__enter__().members()))
    assert ingest(made, "a.zip", tmp_path / "no", "--params", few % (files - 1)) == 3
    assert f"more than {files - 1:,} files" in (told := capsys.readouterr().err)
    assert "ingest.max_members of params.yaml allows more, to `mura ingest` and `mura import`." in told
    assert ingest(made, "a.zip", tmp_path / "yes", "--params", few % files) == 0


def test_what_the_command_needs_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    record = tmp_path / "1.made.json"
    record.write_text("{}")
    for words, why in (
        (["--out", str(tmp_path)], "Missing argument 'PART...'"),
        ([str(record), "--out", str(tmp_path)], "Missing argument 'PART...'"),
        (["part"], "Missing option '--out'"),
    ):
        assert main.run(["merge", *words]) == 2
        assert why in capfd.readouterr().err
