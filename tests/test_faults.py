"""Steps are killed and get errors of the disk, and bits of their results flip; the next run mends it or names it.

`python -m benchmarks.faults` does this to every step, thirty times for each kind, and loses answers of servers too;
`python -m benchmarks.flips` flips more.
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks import faults, flips, harness
from benchmarks.faults import STEPS, Place, Trial

TIMES = 3
KINDS = ("kill", "error")
# The others take minutes each, and are killed by tests of their own.
QUICK = ("ingest", "validate", "shard")
# The first test runs every step.
pytestmark = [pytest.mark.longest, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Place]]:
    """A place where each step has run once."""
    folder = tmp_path_factory.mktemp("faults")
    archive = harness.draw(folder / faults.ARCHIVE, round(faults.STUDIES * harness.IMAGES_PER_STUDY))
    with faults.places(folder, list(STEPS), KINDS, archive, cores=1) as made:
        yield made


@pytest.fixture(scope="module")
def trials(places: Mapping[str, Place]) -> Iterator[dict[tuple[str, str], Trial]]:
    """A step at a place, made when it is first asked for."""
    with ExitStack() as stack:

        class Trials(dict[tuple[str, str], Trial]):
            def __missing__(self, key: tuple[str, str]) -> Trial:
                where, step = key
                self[key] = stack.enter_context(faults.trial(places[where], step))
                return self[key]

        yield Trials()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", QUICK)
def test_a_step_that_was_killed_or_met_an_error_of_the_disk_is_mended_by_the_next_run(
    trials: Mapping[tuple[str, str], Trial], step: str, kind: str
) -> None:
    row = faults.measure(trials["files", step], kind, TIMES)
    assert (row.equal, row.unequal, row.surprising) == (TIMES, [], [])


@pytest.mark.parametrize("step", ["shard"])
def test_a_bit_that_flips_in_a_checkpoint_is_named_and_changes_no_result(
    trials: Mapping[tuple[str, str], Trial], step: str
) -> None:
    assert flips.checkpoint_unnamed(trials["files", step], TIMES, random.Random(step)) == []


@pytest.mark.parametrize("kind", flips.commands())
def test_a_bit_that_flips_in_an_artifact_is_named_by_the_step_that_reads_it(
    places: Mapping[str, Place], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = places["files"]
    if not (place.folder / flips.SETTINGS).is_dir():
        flips.make_the_others(place)
    monkeypatch.chdir(place.folder)
    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)
    path, words = flips.commands()[kind]
    assert flips.artifact_unnamed(Path(path), words, 20, random.Random(kind)) == []
