import errno
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from components.base import workers
from components.base.errors import DataRefused, OutsideFailed

# Workers import these functions by name.


def square(number: int) -> int:
    return number * number


def slow_if_even(number: int) -> int:
    if number % 2 == 0:
        time.sleep(0.05)
    return number


def refuse_three(number: int) -> int:
    if number == 3:
        raise DataRefused(f"image {number}: damaged", keep=Path("reports"))
    return number


def die_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def process(_: int) -> int:
    return os.getpid()


@pytest.mark.parametrize("count", [1, 2])
def test_results_come_in_the_order_of_the_items(count: int) -> None:
    with workers.in_order(slow_if_even, range(25), workers=count) as results:
        assert list(results) == list(range(25))


@pytest.mark.parametrize("count", [1, 2])
def test_of_nothing_comes_nothing(count: int) -> None:
    with workers.in_order(square, [], workers=count) as results:
        assert list(results) == []


@pytest.mark.parametrize("count", [1, 2])
def test_items_are_taken_as_they_are_needed(count: int) -> None:
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        for number in itertools.count(1):
            taken = number
            yield number

    with workers.in_order(square, endless(), workers=count) as results:
        for done in range(1, 30):
            assert next(results) == done * done
            assert taken <= done + count * workers.AHEAD


def test_workers_begin_before_the_first_result_is_asked_for(tmp_path: Path) -> None:
    marks = [tmp_path / str(number) for number in range(3)]
    with workers.in_order(Path.touch, marks, workers=2) as results:
        deadline = time.monotonic() + 20
        while not all(mark.exists() for mark in marks) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert all(mark.exists() for mark in marks)
        assert list(results) == [None] * 3


def test_two_workers_are_other_processes() -> None:
    with workers.in_order(process, range(20), workers=2) as results:
        assert os.getpid() not in set(results)


def test_one_worker_is_this_process() -> None:
    with workers.in_order(process, range(3), workers=1) as results:
        assert list(results) == [os.getpid()] * 3


@pytest.mark.parametrize("count", [1, 2])
def test_an_exception_arrives_with_its_type_and_all_it_holds(count: int) -> None:
    with workers.in_order(refuse_three, range(10), workers=count) as results:
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(DataRefused, match="image 3: damaged") as refusal:
            next(results)
    assert refusal.value.keep == Path("reports")


def test_a_worker_that_is_killed_is_an_error_and_not_a_wait_for_ever() -> None:
    with (
        pytest.raises(OutsideFailed, match="A worker process died") as error,
        workers.in_order(die_at_three, range(100), workers=2) as results,
    ):
        list(results)
    assert "\n" not in str(error.value)


def test_no_worker_is_left_when_the_reader_stops_early() -> None:
    with workers.in_order(process, itertools.count(), workers=2) as results:
        processes = {next(results) for _ in range(10)}
    assert not [worker for worker in processes if alive(worker)]


PARENT = """
    import os, sys, time
    from components.base import workers

    def tell_and_wait(number):
        os.write(1, f"{os.getpid()}\\n".encode())  # in one piece: `print` writes the end of the line by itself
        time.sleep(60 if sys.argv[1] == "busy" else 0)

    def numbers():
        yield from range(2)
        time.sleep(60)
        yield 2

    if __name__ == "__main__":
        with workers.in_order(tell_and_wait, numbers(), workers=2) as results:
            list(results)
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_a_parent_that_is_killed(tmp_path: Path, state: str, by: signal.Signals) -> None:
    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent(PARENT))
    surroundings = os.environ | {"PYTHONPATH": str(Path(workers.__file__).parent.parent)}
    parent = subprocess.Popen([sys.executable, str(script), state], stdout=subprocess.PIPE, env=surroundings)
    assert parent.stdout is not None
    with parent.stdout:
        processes = [int(parent.stdout.readline()) for _ in range(2)]
        assert all(alive(worker) for worker in processes)
        parent.send_signal(by)
        parent.wait(10)
        deadline = time.monotonic() + 10
        while any(alive(worker) for worker in processes) and time.monotonic() < deadline:
            time.sleep(0.02)
    assert not [worker for worker in processes if alive(worker)]


def alive(process: int) -> bool:
    """Whether a process runs; one that nobody has buried yet does not."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("250000 100000", 2),
        ("50000 100000", 1),
        ("1600000 100000", 8),
        ("", 8),
        (None, 8),
    ],
)
def test_a_containers_limit_counts_as_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str | None, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(workers, "CPU_MAX", tmp_path / "cpu.max")
    if limit is not None:
        (tmp_path / "cpu.max").write_text(limit + "\n")
    assert workers.cores() == cores


def test_what_is_done_aside_comes_when_it_is_asked_for() -> None:
    assert workers.aside(lambda: square(3)).result() == 9


def test_what_goes_wrong_aside_is_raised_when_it_is_asked_for() -> None:
    with pytest.raises(DataRefused, match="image 3"):
        workers.aside(lambda: refuse_three(3)).result()


def test_ctrl_c_while_workers_start_is_one_line(tmp_path: Path) -> None:
    """A terminal sends it to the whole process group, also to workers that still import their modules."""
    (tmp_path / "slow.py").write_text(
        "import os, signal, sys, time\n"
        "from components.base import workers\n"
        "if __name__ != '__main__':\n"
        "    open(f'{sys.argv[1]}/{os.getpid()}', 'w').close()\n"
        "    while not os.path.exists(f'{sys.argv[1]}/sent'):\n"
        "        time.sleep(0.02)\n"
        "def same(number):\n"
        "    return number\n"
        "if __name__ == '__main__':\n"
        # A shell starts what runs in the background with Ctrl-C ignored.
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "    try:\n"
        "        with workers.in_order(same, range(20), workers=2) as results:\n"
        "            list(results)\n"
        "    except KeyboardInterrupt:\n"
        "        sys.exit('interrupted')\n"
    )
    started = tmp_path / "started"
    started.mkdir()
    command = [sys.executable, str(tmp_path / "slow.py"), str(started)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while len(list(started.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    (started / "sent").touch()
    assert process.communicate(timeout=60)[1] == "interrupted\n"


def fail_outside(number: int) -> int:
    raise OSError(errno.EIO, "Input/output error", "a.zip")


class Unsendable(OSError):
    """An error that the parent could not make again: its constructor needs more than its arguments."""

    def __init__(self, number: int, text: str, more: object) -> None:
        super().__init__(number, text)
        self.more = more


def fail_unsendably(number: int) -> int:
    raise Unsendable(errno.EIO, "Input/output error", lambda: None)


@pytest.mark.parametrize("function", [fail_outside, fail_unsendably])
def test_an_error_of_the_system_in_a_worker_is_told_as_such(function: Callable[[int], int]) -> None:
    with (
        pytest.raises(OutsideFailed, match="Input/output error") as failure,
        workers.in_order(function, range(9), workers=2) as results,
    ):
        list(results)
    assert "\n" not in str(failure.value)


class Unpicklable:
    """Cannot be read in a worker: as a module that cannot be imported there, because the disk or the memory fails."""

    def __reduce__(self) -> tuple[Any, ...]:
        return fail_outside, (0,)


def test_an_item_that_a_worker_cannot_read_is_one_error(capfd: pytest.CaptureFixture[str]) -> None:
    with (
        pytest.raises(OutsideFailed, match="Input/output error"),
        workers.in_order(print, [Unpicklable()] * 4, workers=2) as results,
    ):
        list(results)
    assert capfd.readouterr() == ("", "")
