import logging

import pytest

from components.base.progress import Bar, duration, track


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_items_pass_unchanged() -> None:
    assert list(track(iter("abc"), 3, "shard: files")) == ["a", "b", "c"]


def test_long_work_says_every_tenth_how_far_it_is(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        list(track(range(1000), 1000, "ingest: images"))
    assert lines(caplog) == [f"ingest: images {done} of 1,000" for done in range(100, 1000, 100)]


def test_short_work_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        list(track(range(40), 40, "shard: files"))
    assert lines(caplog) == []


def test_large_steps_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), Bar(1000, "phantom: images") as bar:
        for done in (50, 450, 450, 1000):
            bar.advance_to(done)
    assert lines(caplog) == ["phantom: images 450 of 1,000"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (-1, "0 s"),
    ],
)
def test_durations_read_well(seconds: float, words: str) -> None:
    assert duration(seconds) == words
