"""Which share of the work a task does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.base.errors import UsageError
from components.base.part import COUNTED_FROM, Part


@pytest.fixture(autouse=True)
def no_array(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in COUNTED_FROM:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@given(count=st.integers(0, 1000), of=st.integers(1, 40))
def test_shares_are_all_things_in_order_and_nearly_equal(count: int, of: int) -> None:
    things = list(range(count))
    shares = [things[Part(number, of).share(count)] for number in range(1, of + 1)]
    assert [each for share in shares for each in share] == things
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("SLURM_ARRAY_TASK_ID", "1", "1/8"),
        ("SLURM_ARRAY_TASK_ID", "8", "8/8"),
        ("JOB_COMPLETION_INDEX", "0", "1/8"),
        ("JOB_COMPLETION_INDEX", "7", "8/8"),
    ],
)
def test_an_array_and_an_indexed_job_say_which_part(
    no_array: pytest.MonkeyPatch, name: str, value: str, part: str
) -> None:
    no_array.setenv(name, value)
    assert str(Part.read("auto/8")) == part


def test_what_is_written_is_not_asked_of_the_environment(no_array: pytest.MonkeyPatch) -> None:
    no_array.setenv("SLURM_ARRAY_TASK_ID", "5")
    assert Part.read("2/8") == Part(2, 8)


@pytest.mark.parametrize(
    "text", ["0/8", "9/8", "1/0", "8", "1/", "/8", "-1/8", "a/8", "1.5/8", "1/8/9", "", "auto", "auto/8"]
)
def test_no_such_part_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--part"):
        Part.read(text)


@pytest.mark.parametrize(
    ("told", "match"),
    [
        ({"SLURM_ARRAY_TASK_ID": "0"}, r"no part 0 of 8 \(SLURM_ARRAY_TASK_ID is 0, for `sbatch --array=1-N`\)"),
        ({"SLURM_ARRAY_TASK_ID": "9"}, "no part 9 of 8"),
        ({"JOB_COMPLETION_INDEX": "8"}, r"no part 9 of 8 \(JOB_COMPLETION_INDEX is 8\)"),
        ({"JOB_COMPLETION_INDEX": "x"}, "JOB_COMPLETION_INDEX is 'x', expected a number"),
        ({"JOB_COMPLETION_INDEX": "1", "SLURM_ARRAY_TASK_ID": "1"}, "both are set"),
        ({}, "neither is set"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(no_array: pytest.MonkeyPatch, told: dict[str, str], match: str) -> None:
    for name, value in told.items():
        no_array.setenv(name, value)
    with pytest.raises(UsageError, match=match):
        Part.read("auto/8")
