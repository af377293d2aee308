"""A real S3 server behind a proxy that lies: each lie ends with 5 and one line, and little is read of it."""

import gzip
import itertools
from collections.abc import Iterator
from pathlib import Path

import lying_proxy as lie
import pytest
from lying_proxy import Fault, LyingProxy, lying
from miniature import write_directory, write_zip

from components.archive import s3
from components.archive.archive import Archive
from components.base import answers
from components.base.errors import DataRefused, MuraError, ServiceUnreachable
from components.cli import main

FILES = {f"MURA-v1.1/train/{number:03d}.png": bytes([number]) * 20_000 for number in range(40)}
ZIP, TREE = "s3://bucket/MURA-v1.1.zip", "s3://bucket/tree/"
MEMBER = "MURA-v1.1/train/007.png"
# What lies in the buffers of sockets was not read.
BUFFERS = 16_000_000


@pytest.fixture
def proxy(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LyingProxy]:
    write_zip(bucket / "MURA-v1.1.zip", FILES)
    write_directory(bucket / "tree", FILES)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    monkeypatch.setattr(answers, "WINDOW", 0.5)
    with lying(s3.endpoint()) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
        yield proxy


LIES: dict[str, tuple[Fault, str]] = {
    "body without end": (lie.endless(), "more than|requested .* bytes, got"),
    "chunks without end": (lie.endless(chunked=True), "more than|requested .* bytes, got"),
    "error without end": (lie.endless(500), "more than 1,048,576 bytes"),
    "refusal without end": (lie.endless(404), "more than 1,048,576 bytes"),
    "error of tags without end": (lie.endless(503, filling=b"<a>"), "more than 1,048,576 bytes"),
    "one byte at a time": (lie.trickled(pause=0.02), "less than 4,096 bytes a second"),
    "a head of one byte at a time": (lie.trickled(pause=0.02, head=True), "less than 4,096 bytes a second"),
    "100 Continue for ever": (lie.continues(), "headers of more than"),
    "100 Continue now and then": (lie.continues(pause=0.02), "less than 4,096 bytes a second"),
    "headers without end": (lie.endless_headers(), "more than 100 headers"),
    "headers now and then": (lie.endless_headers(pause=0.02), "less than 4,096 bytes a second"),
    "a header without end": (lie.endless_line, "more than 65536 bytes"),
    "no HTTP": (lie.garbage, "an answer that is no HTTP"),
    "too short by its own word": (lie.sized(5), "got 5"),
    "headers that are none": (lie.garbage_headers, "ignores ranges"),
    "a length that is none": (lie.sized("many"), "many"),
    "another range": (lie.headed(content_range="bytes 100-200/800000"), "bytes 100-200/800000"),
    "a range of numbers without end": (lie.headed(content_range=f"bytes 0-0/{'9' * 5000}"), "ignores ranges"),
    "a range that is none": (lie.headed(content_range="bytes x-y/z"), "ignores ranges"),
    "no range": (lie.headed(content_range=""), "ignores ranges"),
    "all in place of a range": (lie.whole, "ignores ranges"),
    "a date that is none": (lie.headed(last_modified="yesterday"), "cannot be understood"),
    "a redirection": (lie.redirected("http://127.0.0.1:1/elsewhere"), "a redirection to http://127.0.0.1:1/elsewhere"),
    "a redirection with a secret": (lie.redirected("http://me:secret@127.0.0.1:1/", 302), "redirection to http://127"),
    "silence of a gateway": (lie.status(502), "502"),
    "cut": (lie.cut(10), "IncompleteRead|got 10|got"),
    "broken off": (lie.cut(10, reset=True), "reset|IncompleteRead|got"),
    "unheard": (lie.unheard, "reset|Connection was closed"),
}


@pytest.mark.long
@pytest.mark.parametrize("fault", [fault for fault, _ in LIES.values()], ids=LIES)
@pytest.mark.parametrize("kind", ["zip", "directory"])
def test_a_lie_about_a_member_ends_with_5_and_says_who_lied(
    proxy: LyingProxy, fault: Fault, kind: str, request: pytest.FixtureRequest
) -> None:
    reason = LIES[request.node.callspec.id.partition("-")[2]][1]
    with Archive.read(ZIP if kind == "zip" else TREE) as opened:
        proxy.honest()
        proxy.when("GET", fault, times=None)
        with pytest.raises(ServiceUnreachable, match=f"s3://bucket/.*S3 at {proxy.address} .*({reason})") as told:
            opened.bytes_of(MEMBER)
    assert told.value.exit_code == 5
    assert str(told.value).isprintable()
    assert "secret" not in str(told.value)
    assert proxy.sent < 2 * BUFFERS


@pytest.mark.long
@pytest.mark.parametrize("place", [ZIP, TREE])
@pytest.mark.parametrize(
    "fault", [lie.endless(404), lie.endless(500), lie.endless(200), lie.continues(), lie.trickled(0.02)]
)
def test_a_lie_about_whether_there_is_an_archive_ends_with_5(proxy: LyingProxy, fault: Fault, place: str) -> None:
    proxy.when("GET", fault, times=None)
    with pytest.raises(ServiceUnreachable, match=f"S3 at {proxy.address}"):
        Archive.read(place)
    assert proxy.sent < 2 * BUFFERS


@pytest.mark.parametrize("fault", [lie.endless(), lie.endless(filling=b"<a/>"), lie.endless(chunked=True)])
def test_what_is_behind_a_true_answer_is_not_read(proxy: LyingProxy, fault: Fault) -> None:
    with Archive.read(ZIP) as opened:
        proxy.honest()
        proxy.when("GET", fault, times=None)
        with pytest.raises(ServiceUnreachable):
            opened.bytes_of(MEMBER)
        assert len(proxy.requests) == 2
        assert proxy.sent < 2 * BUFFERS


# Lists.

LISTS = {
    "without end": (lambda n: ([f"tree/{n % 7}.png"], f"t{n}"), "a page comes twice"),
    "of one page": (lambda n: (["tree/a.png", "tree/b.png"], "again"), "a page comes twice"),
    "of empty pages": (lambda n: ([], f"t{n}"), "pages have 0 keys"),
    "of pages with one key": (lambda n: ([f"tree/{n}.png"], f"t{n}"), "pages have 111 keys|pages have 11. keys"),
    "that goes on without a token": (lambda n: (["tree/a.png"], "-"), "no token for the rest"),
    "of others' objects": (lambda n: (["elsewhere/a.png"], ""), "other objects than those below tree/"),
    "that has a key twice": (lambda n: (["tree/a.png", "tree/b.png", "tree/a.png"], ""), "has a.png twice"),
    "that has a key on two pages": (
        lambda n: ([f"tree/{n}.png", "tree/z.png"], "more" if n < 1 else ""),
        "has z.png twice",
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("kind", LISTS)
def test_a_list_that_lies_ends_with_5(proxy: LyingProxy, kind: str) -> None:
    pages, reason = LISTS[kind]
    found = Archive.find(TREE)
    proxy.when("list-type=2", lie.listing(pages), times=None)
    with found as opened, pytest.raises(ServiceUnreachable, match=f"S3 at {proxy.address}.*({reason})") as told:
        list(opened.members())
    assert str(told.value).isprintable()


@pytest.mark.long
@pytest.mark.parametrize(
    "fault",
    [
        lie.endless(),
        lie.endless(filling=b"<Contents><Key>tree/a</Key><Size>1</Size></Contents>"),
        lie.endless(filling=b"<a>"),
        lie.trickled(0.02),
        lie.made(
            lambda _: lie.Answer(200, (), b"<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>")
        ),
        lie.made(
            lambda _: lie.Answer(200, (), b"<ListBucketResult><Contents><Key>tree/a</Key><Size>x</Size></Contents>")
        ),
        lie.made(lambda _: lie.Answer(200, (), gzip.compress(b"0" * 1000))),
    ],
)
def test_a_page_that_lies_ends_with_5(proxy: LyingProxy, fault: Fault) -> None:
    found = Archive.find(TREE)
    proxy.when("list-type=2", fault, times=None)
    with found as opened, pytest.raises(ServiceUnreachable, match=f"S3 at {proxy.address}"):
        list(opened.members())
    assert proxy.sent < 2 * BUFFERS


@pytest.mark.parametrize(
    ("pages", "refusal", "reason"),
    [(7, DataRefused, "more than 5,000 files"), (10**9, ServiceUnreachable, "no end: more than 10,000 keys")],
    ids=["too long", "endless"],
)
def test_a_list_that_is_too_long_is_told_from_one_without_end(
    proxy: LyingProxy, pages: int, refusal: type[MuraError], reason: str
) -> None:
    numbers = itertools.count()

    def page(number: int) -> tuple[list[str], str]:
        return [f"tree/{next(numbers):09d}.png" for _ in range(1000)], f"t{number}" if number < pages - 1 else ""

    proxy.when("list-type=2", lie.listing(page), times=None)
    with Archive(TREE, None, max_members=5_000) as opened, pytest.raises(refusal, match=reason):
        list(opened.members())
    assert len(proxy.requests) == min(pages, 11)


# What is no lie.


@pytest.mark.long
@pytest.mark.parametrize(
    "fault", [lie.delayed(0.7), lie.repeated, lie.sized(10**15)], ids=["late", "twice", "long by its own word"]
)
def test_what_is_only_odd_is_read(proxy: LyingProxy, fault: Fault) -> None:
    proxy.when("GET", fault, times=None)
    with Archive.read(ZIP) as opened:
        assert opened.bytes_of(MEMBER) == FILES[MEMBER]


def test_an_answer_that_comes_slowly_and_not_too_slowly_is_read(proxy: LyingProxy) -> None:
    def slow(exchange: lie.Exchange) -> None:
        answer = exchange.ask()
        exchange.send(answer.head())
        for start in range(0, len(answer.body), 4_000):
            exchange.send(answer.body[start : start + 4_000])
            exchange.pause(0.1)

    with Archive.read(TREE) as opened:
        proxy.when("GET", slow, times=None)
        assert opened.bytes_of(MEMBER) == FILES[MEMBER]


def test_a_step_that_is_lied_to_ends_with_5_and_one_line(
    proxy: LyingProxy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proxy.when("GET", lie.endless(200), times=None)
    params = '{"tuning_fraction": 0.25}'
    words = ["ingest", "--archive", ZIP, "--params", params, "--seed", "1", "--out", str(tmp_path / "manifest")]
    assert main.run(words) == 5
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"error: {ZIP}: S3 at {proxy.address} did not answer correctly: 2 attempts")
    assert list(tmp_path.iterdir()) == []
