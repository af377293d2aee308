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
@click.argument("parts", nargs=-1, required=True, metavar="PART...", type=click.Path(path_type=Path))
@click.option("--archive", metavar="PATH|s3://BUCKET/KEY", help="The archive. Required for parts of a manifest.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Directory for the whole.")
@click.option(
    SETTINGS,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Directory of `mura settings`. Check that the parts were made so, and tell DVC's later stages.",
)
def merge(parts: tuple[Path, ...], archive: str | None, out: Path, settings: Path | None) -> None:
    """Make a manifest or shards of all their parts, the same to the byte as one run makes.

    PART is a directory that `mura ingest --part I/N` or `mura shard --part I/N` made. All N are needed, in any order.
    The archive is read once as a whole, for its md5; for shards it is not needed.
    """
    from components.artifacts.parts import complete, read_parts

    started = time.monotonic()
    found: list[AnyPart] = complete(read_parts(parts))
    used = _used(settings, found[0]) if settings else None
    join = _joining(found, archive)
    with space.named(out), writing(out, {"parts": [part.digest for part in found]}, join.card) as work:
        made = join.function(work)
    if used is not None:
        from components.cli import settings as of_dvc

        used.check_unchanged()
        of_dvc.record(used, out, made)
    logger.info("merge: wrote %s, digest %s, %.0f s", out, made.digest[:12], time.monotonic() - started)


class _Joining(NamedTuple):
    """How parts become a whole."""

    card: str
    function: "Callable[[Path], Artifact[Any]]"


def _joining(parts: "list[AnyPart]", place: str | None) -> _Joining:
    """The function for parts of this kind.

    Raises:
        UsageError: the archive is missing, or not needed.
    """
    from components.archive.archive import Archive
    from components.artifacts.manifest import Manifest
    from components.artifacts.parts import ManifestPart, ShardsPart
    from components.artifacts.shards import Shards
    from components.ingest import merge_manifest
    from components.params.ingest import IngestParams
    from components.shard import merge_shards

    if of_manifest := [part for part in parts if isinstance(part, ManifestPart)]:
        if place is None:
            raise UsageError("merge: parts of a manifest need --archive, the archive that they were made from.")
        params = IngestParams.model_validate(of_manifest[0].facts.origin.params)
        archive = Archive.read(place, params.max_members)
        return _Joining(Manifest.CARD, lambda out: merge_manifest(archive, of_manifest, out))
    if place is not None:
        raise UsageError("merge: parts of shards need no archive. Leave out --archive.")
    of_shards = [part for part in parts if isinstance(part, ShardsPart)]
    return _Joining(Shards.CARD, lambda out: merge_shards(of_shards, out))


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
