import hashlib
import logging
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import object_store
import pytest
import yaml
from miniature import ROOT, archive, images, write_directory, write_zip

from components.archive import mura_v1_1, s3
from components.archive.archive import Archive
from components.archive.importing import PUBLISHED, Census, identify, switch, take_census
from components.base.errors import DataRefused, ServiceUnreachable, UsageError
from components.base.files import alone
from components.cli import main
from components.params.document import read_params

PROJECT = Path(__file__).parents[2]
ZIP = "s3://bucket/MURA-v1.1.zip"
SMALL = Census({"train": 5, "valid": 3}, {"train": 3, "valid": 2}, {"train": 3, "valid": 2})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of DVC with choices, in which one stands."""
    here = tmp_path / "project"
    (here / ".dvc").mkdir(parents=True)
    (here / ".dvc" / "config").write_text(
        "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n"
    )
    shutil.copy(PROJECT / "params.yaml", here)
    monkeypatch.chdir(here)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    return here


def dvc(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "dvc", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_an_archive_on_s3_is_imported_pushed_and_pulled(
    project: Path, bucket: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = write_zip(bucket / "MURA-v1.1.zip", archive()).read_bytes()
    md5 = hashlib.md5(whole).hexdigest()
    before = (project / "params.yaml").read_text()
    assert main.run(["import", ZIP]) == 0
    assert f"{len(whole):,} bytes, md5 {md5}" in capsys.readouterr().out
    kept = project / "data" / "MURA-v1.1.zip"
    assert kept.read_bytes() == whole
    out = yaml.safe_load(kept.with_name("MURA-v1.1.zip.dvc").read_text())["outs"][0]
    assert (out["md5"], out["size"]) == (md5, len(whole))
    after = (project / "params.yaml").read_text()
    assert after == before.replace("archive: data/phantom.zip", "archive: data/MURA-v1.1.zip")

    assert main.run(["remote", "s3://bucket/store"]) == 0
    dvc("push")
    assert (bucket / "store" / "files" / "md5" / md5[:2] / md5[2:]).read_bytes() == whole
    shutil.rmtree(project / ".dvc" / "cache")
    kept.unlink()
    dvc("pull")
    assert kept.read_bytes() == whole
    written = "".join(path.read_text() for path in (project / ".dvc").glob("config*"))
    assert s3.endpoint() in written
    assert object_store.SECRET not in written
    assert "bucket" not in (project / ".dvc" / "config").read_text()


@pytest.mark.long
def test_a_zip_comes_from_outside_and_stays_inside(project: Path, tmp_path: Path) -> None:
    outside = write_zip(tmp_path / "elsewhere.zip", archive())
    whole = outside.read_bytes()
    assert main.run(["import", str(outside)]) == 0
    assert (project / "data" / "elsewhere.zip").read_bytes() == outside.read_bytes() == whole
    inside = (project / "data" / "elsewhere.zip").rename(project / "mine.zip")
    assert main.run(["import", str(inside)]) == 0
    assert yaml.safe_load((project / "params.yaml").read_text())["archive"] == "mine.zip"
    assert not (project / "data" / "mine.zip").exists()


@pytest.mark.long
def test_of_a_directory_the_same_zip_is_made_every_time(project: Path, tmp_path: Path) -> None:
    files = archive(images(train=4, valid=2))
    made = []
    for name in ("one", "two"):
        folder = write_directory(tmp_path / name, dict(sorted(files.items(), reverse=name == "two")))
        assert main.run(["import", str(folder), "--out", f"data/{name}.zip"]) == 0
        made.append((project / "data" / f"{name}.zip").read_bytes())
    assert made[0] == made[1]
    with Archive.read(project / "data" / "one.zip") as opened:
        assert {member: opened.bytes_of(member) for member in opened.members()} == files


def test_another_file_is_not_overwritten(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outside = write_zip(tmp_path / "MURA-v1.1.zip", archive())
    (project / "data").mkdir()
    (project / "data" / "MURA-v1.1.zip").write_bytes(b"another")
    assert main.run(["import", str(outside)]) == UsageError.exit_code
    assert "another file is there" in capsys.readouterr().err
    assert (project / "data" / "MURA-v1.1.zip").read_bytes() == b"another"
    assert [path.name for path in (project / "data").iterdir()] == ["MURA-v1.1.zip"]


def test_two_do_not_import_to_the_same_place_at_once(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = write_zip(tmp_path / "MURA-v1.1.zip", archive())
    before = (project / "params.yaml").read_bytes()
    with alone(project / "data" / "MURA-v1.1.zip"):
        assert main.run(["import", str(outside)]) == UsageError.exit_code
    assert "MURA-v1.1.zip: another process is writing it" in capsys.readouterr().err
    assert list((project / "data").iterdir()) == []
    assert (project / "params.yaml").read_bytes() == before


def test_what_dvc_does_not_take_is_not_left_behind(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = write_zip(tmp_path / "phantom.zip", archive())
    (project / "data").mkdir()
    shutil.copy(PROJECT / "data" / "dvc.yaml", project / "data")
    before = (project / "params.yaml").read_bytes()
    assert main.run(["import", str(outside)]) == UsageError.exit_code
    assert "'phantom'" in capsys.readouterr().err
    assert [path.name for path in (project / "data").iterdir()] == ["dvc.yaml"]
    assert (project / "params.yaml").read_bytes() == before


def test_a_server_that_goes_away_leaves_no_part_of_an_archive(
    project: Path, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_zip(bucket / "MURA-v1.1.zip", archive() | {f"{ROOT}/more": os.urandom(9 * s3.MOST)})
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    before = (project / "params.yaml").read_bytes()
    with object_store.proxied(s3.endpoint(), share=1.0, spared=9) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
        assert main.run(["import", ZIP]) == ServiceUnreachable.exit_code
        assert proxy.faults
    assert list((project / "data").iterdir()) == []
    assert (project / "params.yaml").read_bytes() == before


@pytest.mark.parametrize("words", [[], ["--out", "../elsewhere.zip"]], ids=["no repository", "out of it"])
def test_dvc_keeps_what_is_inside_its_repository(
    project: Path, tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    outside = write_zip(tmp_path / "MURA-v1.1.zip", archive())
    if not words:
        shutil.rmtree(project / ".dvc")
    assert main.run(["import", str(outside), *words]) == UsageError.exit_code
    assert "repository" in capsys.readouterr().err
    assert not (project / "data").exists()


@pytest.mark.parametrize("link", ["data/a.zip", "data"])
def test_a_link_that_leads_outside_is_named(
    link: str, project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    whole = write_zip(outside / "a.zip", archive())
    (project / link).parent.mkdir(exist_ok=True)
    (project / link).symlink_to(whole if link.endswith("zip") else outside)
    assert main.run(["import", "data/a.zip"]) == 2
    told = capsys.readouterr().err
    assert f"{project}/data/a.zip leads to {whole}" in told
    assert "Name a path in there with --out" in told
    assert main.run(["import", "data/a.zip", "--out", "mine.zip"]) == 0
    assert (project / "mine.zip").read_bytes() == whole.read_bytes()


def test_a_download_without_git_is_told_what_to_do(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / ".dvc/config").write_text("")
    write_zip(project / "a.zip", archive())
    assert main.run(["import", "a.zip"]) == 2
    assert "Run `git init` here, or `dvc config --local core.no_scm true`" in capsys.readouterr().err
    assert not (project / "a.zip.dvc").exists()


def test_an_archive_that_lacks_listed_images_is_refused_by_name(tmp_path: Path) -> None:
    files = archive()
    gone = sorted(name for name in files if name.endswith(".png"))[3]
    del files[gone]
    with pytest.raises(DataRefused, match=f"incomplete: 1 of .*{gone}"):
        take_census(Archive.read(write_zip(tmp_path / "a.zip", files)))


def test_a_zip_without_lists_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match="Is this MURA"):
        take_census(Archive.read(write_zip(tmp_path / "a.zip", {"holiday.png": b""})))


def test_images_studies_and_patients_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = images(train=10, valid=3)
    extra = {f"{ROOT}/train/XR_HAND/patient00001/study9_negative/image1.png": b"", f"{ROOT}/._image1.png": b""}
    path = write_zip(tmp_path / "a.zip", archive(names) | extra)
    with caplog.at_level(logging.WARNING):
        census = take_census(Archive.read(path))
    assert "1 images are in no CSV" in caplog.text
    assert census.images == {"train": 18, "valid": 4}
    assert census.patients == {"train": 10, "valid": 3}
    assert census.studies == {"train": 12, "valid": 3}


@pytest.mark.parametrize(
    ("census", "size", "words"),
    [
        (PUBLISHED, mura_v1_1.ARCHIVE_BYTES, "MURA v1.1 as published: 3,380,245,855 bytes, 36,808 + 3,197 images"),
        (PUBLISHED, 3_400_000_000, "the counts of MURA v1.1, 3,400,000,000 bytes instead of 3,380,245,855"),
        (PUBLISHED, None, "the counts of MURA v1.1, packed again"),
        (SMALL, mura_v1_1.ARCHIVE_BYTES, "NOT MURA v1.1, but of the same size"),
        (SMALL, 1000, "not MURA v1.1: 5 + 3 images, 3 + 2 studies, 3 + 2 patients; MURA v1.1 has 36,808 + 3,197"),
    ],
)
def test_the_published_archive_is_known_by_size_and_counts(census: Census, size: int | None, words: str) -> None:
    assert words in identify(census, size)


def test_the_counts_are_those_that_were_published() -> None:
    told = "36,808 + 3,197 images, 13,457 + 1,199 studies, 11,184 + 783 patients"
    assert str(PUBLISHED) == told


@pytest.mark.parametrize("name", ["params.yaml", "params.mura.yaml"])
def test_choices_keep_everything_but_the_archive(tmp_path: Path, name: str) -> None:
    path = Path(shutil.copy(PROJECT / name, tmp_path))
    before = path.read_text().split("\n")
    switch(path, "data/other.zip")
    after = path.read_text().split("\n")
    assert [(b, a) for b, a in zip(before, after, strict=True) if b != a] == [
        (next(line for line in before if line.startswith("archive:")), "archive: data/other.zip")
    ]


@pytest.mark.parametrize(
    ("line", "archive", "expected"),
    [
        ("archive: a.zip   # where it lies", "data/b.zip", "archive: data/b.zip   # where it lies"),
        ("archive:   'a b#c.zip' # x", "b.zip", "archive:   b.zip # x"),
        ('archive: "s3://bucket/a.zip"\r', "b.zip", "archive: b.zip\r"),
        ("archive: a#b.zip", "my data/it's.zip", "archive: my data/it's.zip"),
        ("archive: 'it''s # 1.zip' # x", "data/a #b.zip", "archive: 'data/a #b.zip' # x"),
        ('archive: "a\\n\\"b.zip" # x', "data/a\nb.zip", 'archive: "data/a\\nb.zip" # x'),
        ("archive: a", "1.0", "archive: '1.0'"),
        ("archive: a", "-rf.zip", "archive: -rf.zip"),
        ("archive: a", " b ", "archive: ' b '"),
    ],
)
def test_the_line_keeps_its_comment_and_its_end(tmp_path: Path, line: str, archive: str, expected: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(f"seed: 1\n{line}\n# archive: not this one\n".encode())
    switch(path, archive)
    assert path.read_bytes().decode() == f"seed: 1\n{expected}\n# archive: not this one\n"
    assert yaml.safe_load(path.read_text())["archive"] == archive


@pytest.mark.parametrize(
    "text", ["seed: 1\n", "archive: a\narchive: b\n", "archive:\n  - a\n", "archive: a\n  b.zip\nseed: 1\n"]
)
def test_choices_without_one_plain_archive_are_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"expected one line .* by hand"):
        switch(path, "b.zip")
    assert path.read_text() == text


REMOTES = {
    "no bucket": (["s3://no-bucket/store"], {}, UsageError, "no such bucket"),
    "secret": (["s3://bucket/store"], {"AWS_SECRET_ACCESS_KEY": "another"}, UsageError, "SignatureDoesNotMatch"),
    "no address": (["store"], {}, UsageError, "expected s3://"),
    "secret in the endpoint": (["s3://bucket", "--endpoint", "http://a:b@c"], {}, UsageError, "without credentials"),
    "token in the endpoint": (
        ["s3://bucket", "--endpoint", "http://c/?token=b"],
        {},
        UsageError,
        "without credentials",
    ),
    "no endpoint": (["s3://bucket", "--endpoint", "localhost"], {}, UsageError, "expected http"),
    "no server": (["s3://bucket", "--endpoint", "http://127.0.0.1:1"], {}, ServiceUnreachable, "did not answer"),
}


@pytest.mark.parametrize(("words", "settings", "error", "reason"), REMOTES.values(), ids=REMOTES)
def test_a_remote_that_does_not_work_is_not_written_down(
    project: Path,
    bucket: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    settings: dict[str, str],
    error: type[UsageError],
    reason: str,
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    before = (project / ".dvc" / "config").read_text()
    assert main.run(["remote", *words]) == error.exit_code
    told = capsys.readouterr().err
    assert reason in told
    assert "a:b" not in told
    assert (project / ".dvc" / "config").read_text() == before
    assert not (project / ".dvc" / "config.local").exists()


def test_a_remote_may_be_shared_through_git(project: Path, bucket: Path) -> None:
    assert main.run(["remote", "s3://bucket/store", "--shared", "--name", "team"]) == 0
    assert "url = s3://bucket/store" in (project / ".dvc" / "config").read_text()
    assert not (project / ".dvc" / "config.local").exists()


@pytest.mark.parametrize(
    "name", ['MURA-v1.1 (1) it\'s "q" $(touch PWNED)`touch PWNED`;b&touch PWNED ${c} #骨 .zip', "-rf\n\x7f\u2028b.zip"]
)
def test_an_archive_may_have_any_name(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    outside = write_zip(tmp_path / name, archive(images(train=10, valid=3)))
    assert main.run(["import", str(outside)]) == 0
    kept = project / "data" / name
    assert kept.read_bytes() == outside.read_bytes()
    assert kept.with_name(f"{name}.dvc").is_file()
    assert read_params(project / "params.yaml").archive == f"data/{name}"
    last = capsys.readouterr().out.splitlines()[-1]
    assert not name.isprintable() or f"data/{name}.dvc" in shlex.split(last)
    assert not list(project.rglob("PWNED"))


def test_a_name_like_a_home_directory_is_written_as_none(project: Path) -> None:
    write_zip(project / "~x.zip", archive(images(train=10, valid=3)))
    assert main.run(["import", "~x.zip"]) == 0
    assert read_params(project / "params.yaml").archive == "./~x.zip"


def test_a_name_that_no_text_can_have_is_refused(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = write_zip(tmp_path / os.fsdecode(b"\xff.zip"), archive(images(train=10, valid=3)))
    assert main.run(["import", str(outside)]) == 2
    assert "not UTF-8" in capsys.readouterr().err
    assert list(project.glob("data/*")) == []


def test_an_object_that_is_not_the_one_of_its_name_is_not_imported(
    project: Path, bucket: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """DVC's remote names an object by its md5."""
    (bucket / "files/md5/a5").mkdir(parents=True)
    found = hashlib.md5(write_zip(bucket / "files/md5/a5" / ("0b" * 15), archive()).read_bytes()).hexdigest()
    capsys.readouterr()
    assert main.run(["import", f"s3://bucket/files/md5/a5/{'0b' * 15}", "--out", "data/MURA.zip"]) == 3
    assert f"expected the archive of md5 a5{'0b' * 15}, found md5 {found}" in capsys.readouterr().err
    assert [path for path in (project / "data").rglob("*") if path.is_file()] == []
