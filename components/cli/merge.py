"""`mura merge`: the whole of its parts."""

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from components.base import space
from components.base.errors import DataRefused, UsageError
from components.base.files import writing
from components.cli.group import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Callable

    from components.artifacts.artifact import Artifact
    from components.artifacts.parts import AnyPart
    from components.cli.settings import Used

logger = logging.getLogger(__name__)


@click.command()
@click.argument("parts", nargs=-1, metavar="PART...", type=click.Path(path_type=Path))
@click.option("--archive", metavar="PATH|s3://BUCKET/KEY", help="The archive. Required for parts of a manifest.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Directory for the whole. Required.")
@click.option("--executor-input", metavar="JSON", hidden=True, help="Parts, archive and place, from Kubeflow.")
@click.option(
    SETTINGS,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Directory of `mura settings`. Check that the parts were made so, and tell DVC's later stages.",
)
def merge(
    parts: tuple[Path, ...], archive: str | None, out: Path | None, executor_input: str | None, settings: Path | None
) -> None:
    """Make a manifest or shards of all their parts, the same to the byte as one run makes.

    PART is a directory that `mura ingest --part I/N` or `mura shard --part I/N` made. All N are needed, in any order.
    The record that stands beside a part made with --settings, PART.made.json, is passed over.
    The archive is read once as a whole, for its md5; for shards it is not needed.
    """
    if executor_input:
        _merge_in_pod(executor_input)
        return
    context = click.get_current_context()
    from components.cli.settings import is_record

    # Where a shell makes names of `parts/*`, they are among them.
    parts = tuple(part for part in parts if not is_record(part))
    if not parts:
        raise click.UsageError("Missing argument 'PART...'.", context)
    if out is None:
        raise click.UsageError("Missing option '--out'.", context)

    from components.artifacts.parts import complete, read_parts

    found = complete(read_parts(parts))
    used = _used(settings, found[0]) if settings else None
    _make(found, _joining(found, archive), out, used)


def _merge_in_pod(executor_input: str) -> None:
    """Merge what Kubeflow hands over, and report the whole. The other inputs are for its cache."""
    from components.artifacts.parts import complete, read_parts
    from components.kubeflow.executor import ExecutorInput

    kubeflow = ExecutorInput(executor_input)
    kubeflow.check_there()
    paths = list(kubeflow.artifacts().values())
    if not paths:
        raise UsageError("merge: --executor-input names no part.")
    parts = complete(read_parts(paths))
    join = _joining(parts, kubeflow.parameter("archive"))
    kubeflow.check(join.inputs, join.function.__module__)
    _check_manifest(parts[0], kubeflow.parameter("manifest_digest"))
    out = kubeflow.output(join.kind)
    if out is None:
        raise UsageError(f"merge: --executor-input has no place for the {join.kind.__name__}.")
    made = _make(parts, join, out, None)
    kubeflow.report(type(made)(out, made.facts, made.digest), {})


def _check_manifest(part: "AnyPart", told: str | None) -> None:
    """Check that parts of shards are of the manifest that the pipeline has."""
    from components.artifacts.parts import ShardsPart

    if told and isinstance(part, ShardsPart) and not (found := part.facts.origin.manifest_digest).startswith(told):
        raise DataRefused(
            f"{part.path} and the other parts: made from the manifest of digest {found[:12]}, not {told[:12]}, which "
            "the step before made. Were the parts replaced?"
        )


def _make(parts: "list[AnyPart]", join: "_Joining", out: Path, used: "Used | None") -> "Artifact[Any]":
    """Put the whole of the parts into its place, and the record of how it was made beside it."""
    started = time.monotonic()
    with space.named(out), writing(out, {"parts": [part.digest for part in parts]}, join.kind.CARD) as work:
        made = join.function(**join.inputs, parts=parts, out=work)
        if used is not None:
            from components.cli import settings

            used.check_unchanged()
            settings.record(used, out, made)
    logger.info("merge: wrote %s, digest %s, %.0f s", out, made.digest[:12], time.monotonic() - started)
    return made


class _Joining(NamedTuple):
    """How parts become a whole."""

    kind: "type[Artifact[Any]]"
    """The whole."""
    function: "Callable[..., Artifact[Any]]"
    inputs: dict[str, Any]
    """What it takes besides the parts."""


def _joining(parts: "list[AnyPart]", place: str | None) -> _Joining:
    """The function for parts of this kind.

    Raises:
        UsageError: the archive is missing, or not needed.
    """
    from components.archive.archive import Archive
    from components.artifacts.manifest import Manifest
    from components.artifacts.parts import ManifestPart
    from components.artifacts.shards import Shards
    from components.ingest import merge_manifest
    from components.params.ingest import IngestParams
    from components.shard import merge_shards

    first = parts[0]
    if isinstance(first, ManifestPart):
        if place is None:
            raise UsageError("merge: parts of a manifest need --archive, the archive that they were made from.")
        params = IngestParams.of_card(first.facts.origin.params, first.path / first.CARD)
        return _Joining(Manifest, merge_manifest, {"archive": Archive.read(place, params.max_members)})
    if place is not None:
        raise UsageError("merge: parts of shards need no archive. Leave out --archive.")
    return _Joining(Shards, merge_shards, {})


def _used(folder: Path, part: "AnyPart") -> "Used":
    """The settings of the step, if the parts were made with them."""
    from components.cli import settings

    step = part.STEP.partition(" ")[0]
    used = settings.read(folder, step)
    origin = part.facts.origin.model_dump(mode="json")
    used.check_code(origin["code"])
    overlay = {"overlay_digest": origin["manifest"]["overlay_digest"]} if "manifest" in origin else {}
    for name, value in ({key: origin.get(key) for key in ("params", "seed")} | overlay).items():
        if name in used.inputs and used.inputs[name] != value:
            raise DataRefused(
                f"{part.path}: made with {name} {value!r:.60}, not {used.inputs[name]!r:.60} as {used.file}."
            )
    return used
