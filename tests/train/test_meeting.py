"""Workers wait for each other, and not without limit."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from servers import free_port

from components.base.errors import ServiceUnreachable, UsageError
from components.train import meeting

PLENTY, LITTLE = 60.0, 0.3


@pytest.fixture
def addresses() -> list[str]:
    return [f"127.0.0.1:{free_port()}", "127.0.0.1:1", "127.0.0.1:2"]


def test_all_go_on_when_all_are_there_and_the_port_is_free_again(addresses: list[str]) -> None:
    for _ in range(2):
        with ThreadPoolExecutor(3) as pool:
            started = [pool.submit(meeting.meet, rank, addresses, PLENTY) for rank in (2, 0, 1)]
        assert [each.result() for each in started] == [None] * 3
        socket.create_server(("127.0.0.1", int(addresses[0].rpartition(":")[2]))).close()


@pytest.mark.parametrize(("rank", "missing"), [(0, "1 .*, 2 "), (1, "0 ")])
def test_one_who_does_not_come_is_named(rank: int, missing: str, addresses: list[str]) -> None:
    with pytest.raises(ServiceUnreachable, match=f"worker {missing}.*has not come within 0 s.*MURA_MEETING_SECONDS"):
        meeting.meet(rank, addresses, LITTLE)


@pytest.mark.long
def test_a_worker_does_not_wait_for_a_chief_that_ended(addresses: list[str]) -> None:
    with ThreadPoolExecutor(2) as pool:
        worker = pool.submit(meeting.meet, 1, addresses, 3.0)
        # The chief waits for a third in vain, and ends.
        chief = pool.submit(meeting.meet, 0, addresses, 1.0)
        for each in (chief, worker):
            with pytest.raises(ServiceUnreachable):
                each.result()


def test_a_stranger_at_the_port_is_no_worker(addresses: list[str]) -> None:
    pair = addresses[:2]
    chief = threading.Thread(target=meeting.meet, args=(0, pair, PLENTY))
    chief.start()
    stranger = None
    while stranger is None:
        try:
            stranger = socket.create_connection(("127.0.0.1", int(pair[0].rpartition(":")[2])))
        except OSError:
            time.sleep(0.01)
    with stranger:
        stranger.sendall(b"GET /")
        meeting.meet(1, pair, PLENTY)
    chief.join(PLENTY)
    assert not chief.is_alive()


def test_a_port_that_is_taken_is_named(addresses: list[str]) -> None:
    port = int(addresses[0].rpartition(":")[2])
    with socket.create_server(("", port)), pytest.raises(ServiceUnreachable, match=f"port {port} of this worker"):
        meeting.meet(0, addresses, PLENTY)


@pytest.mark.parametrize("text", ["soon", "-1", "0", "nan", "inf"])
def test_the_patience_is_a_number(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MURA_MEETING_SECONDS", text)
    with pytest.raises(UsageError, match="MURA_MEETING_SECONDS: expected a number of seconds"):
        meeting.seconds()
