"""`mura settings`: from params.yaml to a file for each stage, with everything that the stage uses."""

import logging
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from components.archive import dvc
from components.archive.archive import Archive, is_remote, missing
from components.archive.overlay import Overlay
from components.artifacts.artifact import Artifact
from components.artifacts.trained_model import ENSEMBLE
from components.base import code
from components.base.errors import UsageError
from components.base.files import alone, file_sha256, write_text
from components.base.step import ANALYSES, STEPS
from components.cli import settings, steps
from components.cli.settings import DIGEST, PHANTOM, PHANTOM_MODULE, Settings
from components.params.document import SECTIONS_BY_ENTRY, Params, read_params, section
from components.params.ensemble import EnsembleParams
from components.params.section import Section
from components.params.train import TrainParams

logger = logging.getLogger(__name__)


def resolve(file: Path, out: Path) -> list[Path]:
    """Read params.yaml once and write the settings of every stage. The files of other candidates are removed.

    Args:
        file: params.yaml.
        out: the directory of the settings.

    Returns:
        The files.

    Raises:
        UsageError: a choice is wrong, or there is no archive, no overlay or no file of weights.
        DataRefused: the overlay makes no sense.
    """
    params = read_params(file)
    _check_archive(params.archive)
    overlay = Overlay.read(Path(params.labels.overlay), params.ingest.max_members)
    made = {settings.file_of(out, *key): each for key, each in _stages(params, file, overlay)}
    with alone(out):
        for place, each in made.items():
            place.parent.mkdir(parents=True, exist_ok=True)
            write_text(place, settings.text_of(each))
        for step in SECTIONS_BY_ENTRY:
            for place in set((out / step).glob("*.json")) - set(made):
                place.unlink()
    return list(made)


def _stages(params: Params, file: Path, overlay: Overlay) -> Iterator[tuple[tuple[str, str | None], Settings]]:
    entries: dict[str, Sequence[str]] = {"train": list(params.train.candidates), ENSEMBLE: list(params.ensembles)}
    for step in (*STEPS, *ANALYSES):
        digest = code.digest(f"components.{step}")
        for candidate in entries.get(step, (None,)):
            chosen = section(params, f"{SECTIONS_BY_ENTRY[step]}.{candidate}" if candidate else step, file)
            assert isinstance(chosen, Section)
            yield (step, candidate), Settings(code=digest, inputs=dict(_inputs(step, params, chosen, overlay)))
    drawn = {"studies": params.phantom.studies, "difficulty": params.phantom.difficulty, "seed": params.seed}
    yield (PHANTOM, None), Settings(code=code.digest(PHANTOM_MODULE), inputs=drawn)


def _inputs(step: str, params: Params, chosen: Section, overlay: Overlay) -> Iterator[tuple[str, Any]]:
    """What the inputs of a step are given, by name."""
    for each in steps.inputs_of(steps.step_function(step)):
        if each.is_section:
            name = each.section_for(step)
            given = chosen if name == step else getattr(params, name)
            yield each.name, given.model_dump(mode="json")
            yield from _weights(given)
        elif each.kind is int:
            yield each.name, params.seed
        elif each.kind is Archive:
            yield each.name, params.archive
        elif each.kind is Overlay:
            yield each.name, params.labels.overlay
            yield f"{each.name}{DIGEST}", overlay.identity
        else:
            assert issubclass(each.kind, Artifact), f"{step}: {each.name}: nothing in params.yaml is for it"
            if each.many and isinstance(chosen, EnsembleParams):
                yield "candidates", chosen.chosen(params.train.candidates)
            elif each.many:
                yield "candidates", list(params.train.candidates)
                yield "ensembles", list(params.ensembles)


def _weights(chosen: Section) -> Iterator[tuple[str, str]]:
    """The digest of the file that training starts from, if params.yaml names one."""
    if isinstance(chosen, TrainParams) and chosen.weights_file:
        if not chosen.weights_file.is_file():
            raise UsageError(f"train.candidates.{chosen.candidate}: {chosen.no_weights_file}")
        yield settings.WEIGHTS, file_sha256(chosen.weights_file)


def _check_archive(place: str) -> None:
    """Check that the archive is there, or that DVC knows where it comes from. A place on S3 is left to the step.

    Without DVC nobody knows whether a stage draws it: that is left to the step, too.
    """
    if is_remote(place) or Path(place).exists() or not dvc.is_installed():
        return
    origin = dvc.origin(Path(place))
    if origin is None:
        raise UsageError(f"{missing(place)} `mura import PATH` takes one that you have.")
    if origin.endswith(".dvc"):
        # `dvc repro --pull` may fetch it after this.
        logger.warning("settings: %s is not here: `dvc pull %s` fetches it", place, shlex.quote(origin))
