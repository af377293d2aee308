"""Each step is killed, gets errors of the disk and loses answers of its server; the next run mends it.

`python -m benchmarks.faults` does this thirty times for each step and kind; `python -m benchmarks.flips` flips more.
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks import faults, flips, harness
from benchmarks.faults import KINDS, STEPS, Place, Trial

TIMES = 3
# The first test makes three places, and a training takes its time.
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Place]]:
    """Places where each step has run once: with an MLflow in a file, with a server of S3, and with one of MLflow."""
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


@pytest.mark.parametrize("kind", ["kill", "error"])
@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_was_killed_or_met_an_error_of_the_disk_is_mended_by_the_next_run(
    trials: Mapping[tuple[str, str], Trial], step: str, kind: str
) -> None:
    row = faults.measure(trials["files", step], kind, TIMES)
    assert (row.equal, row.unequal, row.surprising) == (TIMES, [], [])


@pytest.mark.parametrize("step", [name for name, step in STEPS.items() if step.server != "none"])
def test_a_step_that_lost_an_answer_of_its_server_is_mended_by_the_next_run(
    trials: Mapping[tuple[str, str], Trial], step: str
) -> None:
    row = faults.measure(trials[STEPS[step].server, step], "lost", TIMES)
    assert (row.equal, row.unequal, row.surprising) == (TIMES, [], [])


@pytest.mark.parametrize("step", flips.CHECKPOINTS)
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
