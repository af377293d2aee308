import contextlib
import hashlib
import os
import pickle
import shutil
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import object_store
import pytest
from miniature import archive, images, manifest, pack, prove, use_cores, write_directory, write_zip
from servers import free_port

from components.archive import s3, s3_requests
from components.archive.archive import Archive
from components.base.errors import DataChanged, DataRefused, ServiceUnreachable, UsageError
from components.base.files import INPUTS
from components.cli import main
from components.train import mirror

ZIP = "s3://bucket/MURA-v1.1.zip"
FILES = {f"MURA-v1.1/train/{number:03d}.png": bytes([number]) * 50_000 for number in range(100)}


def content(place: str) -> dict[str, bytes]:
    with Archive.read(place) as opened:
        return {member: opened.bytes_of(member) for member in opened.members()}


def every_file(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_zip_and_a_directory_on_s3_are_read_as_those_here(bucket: Path) -> None:
    files = archive(images(train=4, valid=2)) | {"MURA-v1.1/empty": b""}
    write_zip(bucket / "MURA-v1.1.zip", files)
    write_directory(bucket / "below" / "tree", files)
    assert content(ZIP) == content("s3://bucket/below/tree/") == content("s3://bucket/below/tree") == files


def test_manifest_and_shards_of_an_archive_on_s3_are_those_of_the_one_here(
    bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_cores(1, monkeypatch)
    here = write_zip(tmp_path / "MURA-v1.1.zip", archive())
    (bucket / "MURA-v1.1.zip").write_bytes(here.read_bytes())
    for name, place in {"here": str(here), "s3": ZIP}.items():
        made = manifest(place, tmp_path / f"{name}-manifest")
        pack(place, prove(made, tmp_path / f"{name}-valid"), tmp_path / f"{name}-shards")
    assert every_file(tmp_path / "here-manifest") == every_file(tmp_path / "s3-manifest")
    assert every_file(tmp_path / "here-shards") == every_file(tmp_path / "s3-shards")


def test_an_archive_on_s3_is_pickled_as_its_place_and_version(bucket: Path) -> None:
    write_zip(bucket / "MURA-v1.1.zip", FILES)
    again = pickle.loads(pickle.dumps(Archive.read(ZIP)))
    with again as opened:
        assert opened.bytes_of("MURA-v1.1/train/007.png") == FILES["MURA-v1.1/train/007.png"]


def test_one_member_costs_its_own_bytes_and_the_table_of_contents(
    bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_zip(bucket / "MURA-v1.1.zip", FILES)
    with object_store.proxied(s3.endpoint()) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
        with Archive.read(ZIP) as opened:
            before = proxy.fetched
            opened.bytes_of("MURA-v1.1/train/050.png")
        assert before < 300_000
        assert proxy.fetched - before < 2 * 50_000


def test_members_that_follow_each_other_come_in_long_ranges(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_zip(bucket / "MURA-v1.1.zip", FILES)
    with object_store.proxied(s3.endpoint()) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
        for told in (False, True):
            with Archive.read(ZIP) as opened:
                proxy.ranges.clear()
                if told:
                    opened.expect(FILES)
                assert {member: opened.bytes_of(member) for member in FILES} == FILES
            assert len(proxy.ranges) < 12
            assert proxy.fetched < 1.1 * path.stat().st_size + 2 * s3.LEAST


def test_members_here_and_there_are_fetched_once_and_nothing_else(
    bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_zip(bucket / "MURA-v1.1.zip", FILES)
    wanted = list(FILES)[1::7][::-1]
    with object_store.proxied(s3.endpoint()) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
        with Archive.read(ZIP) as opened:
            proxy.ranges.clear()
            opened.expect(wanted)
            for member in wanted:
                assert opened.bytes_of(member) == FILES[member]
        assert len(proxy.ranges) == len(wanted)
        assert proxy.fetched < len(wanted) * 51_000


def test_what_is_expected_may_be_left_out_or_asked_for_in_another_order(bucket: Path) -> None:
    write_zip(bucket / "MURA-v1.1.zip", FILES)
    write_directory(bucket / "tree", FILES)
    names = list(FILES)
    for place in (ZIP, "s3://bucket/tree/"):
        with Archive.read(place) as opened:
            opened.expect([*names[:20], "no such member"])
            for name in (names[3], names[30], names[2], names[10], names[9], names[19]):
                assert opened.bytes_of(name) == FILES[name]
            with pytest.raises(KeyError):
                opened.bytes_of("no such member")


@pytest.mark.long
@pytest.mark.parametrize("kind", ["zip", "directory"])
def test_three_spoiled_answers_in_ten_do_not_show(
    bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    use_cores(1, monkeypatch)
    files = archive(images(train=14, valid=7))
    here = (write_zip if kind == "zip" else write_directory)(tmp_path / "MURA-v1.1", files)
    (shutil.copy if kind == "zip" else shutil.copytree)(here, bucket / "MURA-v1.1")
    with object_store.proxied(s3.endpoint(), share=0.3) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
        made = manifest("s3://bucket/MURA-v1.1", tmp_path / "s3-manifest")
        pack("s3://bucket/MURA-v1.1", prove(made, tmp_path / "s3-valid"), tmp_path / "s3-shards")
    valid = prove(manifest(here, tmp_path / "manifest"), tmp_path / "valid")
    pack(here, valid, tmp_path / "shards")
    assert len(proxy.faults) > 5
    assert every_file(tmp_path / "manifest") == every_file(tmp_path / "s3-manifest")
    assert every_file(tmp_path / "shards") == every_file(tmp_path / "s3-shards")


@pytest.mark.long
@pytest.mark.parametrize("fault", object_store.FAULTS)
def test_an_answer_spoiled_in_one_way_is_asked_for_again(
    bucket: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    write_zip(bucket / "MURA-v1.1.zip", FILES)
    monkeypatch.setattr(object_store, "FAULTS", (fault,))
    with object_store.proxied(s3.endpoint(), share=0.5, seed=2) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
        assert content(ZIP) == FILES
    assert proxy.faults


@pytest.mark.parametrize("place", [ZIP, "s3://bucket/tree/"])
def test_a_server_that_goes_away_ends_a_step_with_5_and_nothing_torn(
    bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    use_cores(1, monkeypatch)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    write_zip(bucket / "MURA-v1.1.zip", archive())
    write_directory(bucket / "tree", archive())
    with object_store.proxied(s3.endpoint(), share=1.0, spared=6) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
        params = '{"tuning_fraction": 0.25}'
        words = ["ingest", "--archive", place, "--params", params, "--seed", "1", "--out", str(tmp_path / "manifest")]
        assert main.run(words) == ServiceUnreachable.exit_code
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("error: s3://bucket/")
    assert "2 attempts" in told
    assert not (tmp_path / "manifest").exists()


def test_a_server_that_is_not_there_is_told_in_one_line(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(
        ServiceUnreachable, match=r"S3 at http://127\.0\.0\.1:1 did not answer.*AWS_ENDPOINT_URL"
    ) as told:
        Archive.read(ZIP)
    assert "\n" not in str(told.value)


MISSING = {
    "key": (ZIP, {}, r"neither an object nor a directory"),
    "directory": ("s3://bucket/none/", {}, r"neither an object nor a directory"),
    "bucket": ("s3://no-bucket/MURA-v1.1.zip", {}, r"no such bucket"),
    "bucket of a directory": ("s3://no-bucket/tree/", {}, r"no such bucket"),
    "name": ("s3://", {}, r"expected s3://bucket/key"),
    # Told before anybody asks for credentials.
    "short": ("s3://x/y", {"AWS_ACCESS_KEY_ID": ""}, r"s3://x/y: x cannot be a bucket.* 3 to 63 of a-z"),
    "letters": ("s3://my_Bucket/p", {"AWS_ACCESS_KEY_ID": ""}, r"my_Bucket cannot be a bucket"),
    "no key": ("s3://nobucket", {"AWS_ACCESS_KEY_ID": ""}, r"a bucket alone. Write s3://nobucket/KEY"),
    "secret": (ZIP, {"AWS_SECRET_ACCESS_KEY": "another"}, r"credentials \(SignatureDoesNotMatch\)"),
    "user": (ZIP, {"AWS_ACCESS_KEY_ID": "somebody"}, r"credentials \(InvalidAccessKeyId\)"),
    "credentials": (ZIP, {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, r"no credentials"),
    "profile": (ZIP, {"AWS_PROFILE": "nobody"}, r"nobody"),
    "endpoint": (ZIP, {"AWS_ENDPOINT_URL": "no address"}, r"no address"),
    "credentials in the address": ("s3://me:secret@bucket/a.zip", {}, r"must not contain credentials"),
}


@pytest.mark.parametrize(("place", "settings", "reason"), MISSING.values(), ids=MISSING)
def test_what_is_wrong_with_a_place_is_told_in_one_line(
    bucket: Path, monkeypatch: pytest.MonkeyPatch, place: str, settings: dict[str, str], reason: str
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=reason) as refusal:
        Archive.read(place)
    assert "\n" not in str(refusal.value)
    assert "secret@" not in str(refusal.value)


@pytest.mark.parametrize("kept", [0, 1, 0.5, 0.99])
def test_part_of_an_object_is_refused(bucket: Path, kept: float) -> None:
    whole = write_zip(bucket / "whole.zip", FILES).read_bytes()
    (bucket / "MURA-v1.1.zip").write_bytes(whole[: int(kept * len(whole)) if kept < 1 else 1])
    with pytest.raises(DataRefused, match=r"not a readable zip.*download complete"):
        Archive.read(ZIP)


@pytest.mark.parametrize("told", [False, True])
def test_an_object_that_is_replaced_while_it_is_read_is_noticed(bucket: Path, told: bool) -> None:
    other = {name: bytes(reversed(content)) for name, content in FILES.items()}
    write_zip(bucket / "MURA-v1.1.zip", FILES)
    with Archive.read(ZIP) as opened:
        write_zip(bucket / "MURA-v1.1.zip", other | {"more": b"x"})
        if told:
            opened.expect(FILES)
        with pytest.raises(DataChanged, match="replaced or removed while it was read"):
            opened.bytes_of("MURA-v1.1/train/050.png")


def test_an_object_that_is_replaced_is_noticed_where_a_server_has_no_etags(
    bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_zip(bucket / "MURA-v1.1.zip", FILES)
    whole = path.read_bytes()
    with object_store.proxied(s3.endpoint()) as proxy:
        proxy.dropped = ("etag",)
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
        assert content(ZIP) == FILES
        with Archive.read(ZIP) as opened:
            path.write_bytes(whole)
            os.utime(path, (1, 1))
            with pytest.raises(DataChanged, match="replaced or removed while it was read"):
                opened.bytes_of("MURA-v1.1/train/050.png")


def test_an_object_that_is_replaced_before_a_worker_opens_it_is_noticed(bucket: Path, tmp_path: Path) -> None:
    change: dict[str, Callable[[], object]] = {
        ZIP: lambda: write_zip(bucket / "MURA-v1.1.zip", {"other": b"x"}),
        str(tmp_path / "here.zip"): lambda: write_zip(tmp_path / "here.zip", {"other": b"x"}),
    }
    write_zip(bucket / "MURA-v1.1.zip", FILES)
    write_zip(tmp_path / "here.zip", FILES)
    for place, replace in change.items():
        found = Archive.read(place)
        replace()
        with pytest.raises(DataChanged, match="replaced"), found:
            pass


def test_a_damaged_member_on_s3_is_refused_by_name(bucket: Path) -> None:
    path = write_zip(bucket / "MURA-v1.1.zip", FILES)
    path.write_bytes(path.read_bytes().replace(FILES["MURA-v1.1/train/007.png"], b"\0" * 50_000))
    with Archive.read(ZIP) as opened, pytest.raises(DataRefused, match=r"train/007\.png: .*MURA-v1\.1\.zip.*CRC"):
        opened.bytes_of("MURA-v1.1/train/007.png")


def test_an_object_is_a_file_to_seek_in(bucket: Path) -> None:
    whole = write_zip(bucket / "MURA-v1.1.zip", FILES).read_bytes()
    found = s3.Object.find(s3.place(ZIP))
    assert found is not None
    with found:
        assert found.seek(-100, 2) == len(whole) - 100
        assert found.read() == whole[-100:]
        found.seek(12_345)
        assert found.read(1_000_000) == whole[12_345:1_012_345]
        assert found.tell() == 1_012_345
        assert found.seek(len(whole) + 5) == len(whole) + 5
        assert found.read(1) == b""
        assert b"".join(found.pieces()) == whole
        assert zipfile.ZipFile(found).namelist() == list(FILES)
        with pytest.raises(OSError, match="negative"):
            found.seek(-1)


def test_the_md5_is_that_of_the_bytes_wherever_they_lie(bucket: Path, tmp_path: Path) -> None:
    here = write_zip(tmp_path / "MURA-v1.1.zip", FILES)
    (bucket / "MURA-v1.1.zip").write_bytes(here.read_bytes())
    write_directory(bucket / "tree", FILES)
    known = hashlib.md5(here.read_bytes()).hexdigest()
    assert Archive.read(here).md5() == Archive.read(ZIP).md5() == known
    assert Archive.read("s3://bucket/tree/").md5() is None
    assert Archive.read(write_directory(tmp_path / "tree", FILES)).md5() is None


def test_no_md5_is_made_of_two_versions(bucket: Path, tmp_path: Path) -> None:
    for folder, place in ((tmp_path, str(tmp_path / "MURA-v1.1.zip")), (bucket, ZIP)):
        write_zip(folder / "MURA-v1.1.zip", FILES)
        found = Archive.read(place)
        write_zip(folder / "MURA-v1.1.zip", FILES | {"more": b"x"})
        with pytest.raises(DataChanged, match="replaced"):
            found.md5()


# Patience.


@pytest.fixture
def pod(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A step of Kubeflow; ten attempts take it half a second."""
    monkeypatch.setenv("KFP_RUN_ID", "0b-1")
    monkeypatch.delenv("MURA_PATIENCE", raising=False)
    monkeypatch.setattr(s3_requests, "LONGEST_PAUSE", 0.05)
    return monkeypatch


def test_a_pod_waits_for_s3_that_is_away_for_a_moment(tmp_path: Path, bucket: Path, pod: pytest.MonkeyPatch) -> None:
    (tmp_path / "bucket").mkdir()
    write_zip(tmp_path / "bucket" / "MURA-v1.1.zip", FILES)
    port = free_port()
    pod.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    with contextlib.ExitStack() as stack:
        late = threading.Timer(1.5, lambda: stack.enter_context(object_store.serving(tmp_path, port)))
        late.start()
        assert content(ZIP) == FILES
        late.join()


@pytest.mark.long
@pytest.mark.parametrize("status", [503, 500, 429])
def test_a_pod_waits_for_s3_that_refuses_for_a_moment(status: int, bucket: Path, pod: pytest.MonkeyPatch) -> None:
    write_zip(bucket / "MURA-v1.1.zip", FILES)
    with object_store.proxied(s3.endpoint()) as proxy:
        proxy.away(status, until=time.monotonic() + 1)
        pod.setenv("AWS_ENDPOINT_URL", proxy.address)
        with Archive.read(ZIP) as opened:
            assert opened.bytes_of("MURA-v1.1/train/007.png") == FILES["MURA-v1.1/train/007.png"]


@pytest.mark.parametrize("endpoint", ["http://no-such-host.invalid:8333", "http://127.0.0.1:9"])
def test_patience_with_s3_ends(endpoint: str, bucket: Path, pod: pytest.MonkeyPatch) -> None:
    pod.setenv("AWS_ENDPOINT_URL", endpoint)
    pod.setenv("MURA_PATIENCE", "1.5")
    with pytest.raises(ServiceUnreachable, match=r"\d\d attempts in [1-9] s") as told:
        Archive.read(ZIP)
    assert told.value.exit_code == 5


def test_a_training_does_not_stop_for_a_copy_that_s3_does_not_take(
    tmp_path: Path, bucket: Path, pod: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pod.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    pod.setenv(mirror.PLACE, "s3://bucket/checkpoints")
    (tmp_path / INPUTS).write_text("f00d")
    # With the pod's patience it would take five minutes.
    mirror.keep(tmp_path)
    assert "10 attempts" in caplog.text
