"""Parts of a manifest and of shards, made on several machines, and whether they belong together."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from components.artifacts.artifact import Artifact, Facts, File
from components.artifacts.manifest import TABLE, ManifestFacts
from components.artifacts.shards import RECORDS, ShardsFacts
from components.base import code, documents
from components.base.errors import DataRefused, UsageError


class Origin(Facts):
    """What parts were made from and with. All parts of one result have the same."""

    code: str
    """Digest of the step's code."""
    contents: str
    """Digest of the archive's table of contents: name, size and, in a zip, CRC-32 of every member."""
    params: dict[str, Any]
    parts: int
    """How many there are."""


class ManifestOrigin(Origin):
    """What parts of a manifest were made from."""

    seed: int
    manifest: ManifestFacts
    """The facts of the whole manifest, without the archive's md5."""


class ShardsOrigin(Origin):
    """What parts of shards were made from."""

    manifest_digest: str
    """Of the ValidManifest."""
    shards: ShardsFacts
    """The facts of the whole shards."""


class ManifestPartFacts(Facts):
    """Which part it is, and of what."""

    part: int
    """From 1."""
    rows: int
    origin: ManifestOrigin


class ShardsPartFacts(Facts):
    """Which part it is, and of what."""

    part: int
    """From 1."""
    files: dict[str, File]
    """Its TFRecord files, in reading order."""
    origin: ShardsOrigin


class ManifestPart(Artifact[ManifestPartFacts]):
    """A share of a manifest's rows, made by `mura ingest --part I/N`.

    part/
        card.json
        manifest.parquet    as in a Manifest
    """

    FACTS = ManifestPartFacts
    STEP = "ingest --part"
    CONTENT = (TABLE,)


class ShardsPart(Artifact[ShardsPartFacts]):
    """A share of the files of shards, made by `mura shard --part I/N`.

    part/
        card.json
        records.parquet                     as in Shards, for these files
        train-00000-of-00064.tfrecord ...   as in Shards
    """

    FACTS = ShardsPartFacts
    STEP = "shard --part"
    CONTENT = ("*.tfrecord", RECORDS)


AnyPart = ManifestPart | ShardsPart
P = TypeVar("P", bound=AnyPart)

# Missing parts that a refusal names.
NAMED = 5
# What a difference is called. Of the nested ones the first entry that differs is named.
NAMES = {
    "code": "other code",
    "contents": "another archive: the tables of contents differ",
    "parts": "another number of parts",
    "seed": "another seed",
    "manifest_digest": "another manifest",
}
NESTED = ("params", "manifest", "shards")


def read_parts(paths: Sequence[Path]) -> list[AnyPart]:
    """Open parts, all of the kind of the first.

    Raises:
        DataRefused: one is not there, is of another kind, or has changed.
    """
    kind = _kind_of(paths[0])
    found: list[AnyPart] = []
    for path in paths:
        try:
            found.append(kind.read(path))
        except UsageError:
            what = "there is none" if path.is_dir() else "there is no such directory"
            raise DataRefused(
                f"{path}: expected a {kind.__name__}, {what}. Was `mura {kind.STEP}` killed? Run it again."
            ) from None
    return found


def _kind_of(path: Path) -> type[ManifestPart] | type[ShardsPart]:
    try:
        found = documents.json_of(documents.content(path / Artifact.CARD))["kind"]
    except (OSError, ValueError, KeyError, TypeError):
        found = None
    return ShardsPart if found == ShardsPart.__name__ else ManifestPart


def complete(parts: Sequence[P]) -> list[P]:
    """All parts of one result, in order, if they are complete and belong together.

    Raises:
        DataRefused: a part is missing, there twice, or was made from or with something else than the others; or other
            code than this one made all of them. The message names it.
    """
    for part in parts:
        _check_origin(part, parts)
    of = parts[0].facts.origin.parts
    by_number: dict[int, P] = {}
    for part in parts:
        if (other := by_number.setdefault(part.facts.part, part)) is not part:
            raise DataRefused(
                f"part {part.facts.part}/{of} is there twice: {other.path} and {part.path}. Name one of the two."
            )
    # A card may claim any number of parts: they are not listed to count those that are missing.
    if lacking := of - sum(1 <= number <= of for number in by_number):
        named = [f"{number}/{of}" for number in islice((n for n in range(1, of + 1) if n not in by_number), NAMED)]
        more = f" and {lacking - NAMED:,} more" if lacking > NAMED else ""
        raise DataRefused(
            f"missing: {'part' if lacking == 1 else 'parts'} {', '.join(named)}{more}. Run `mura {parts[0].STEP} "
            f"I/{of}` for {'it' if lacking == 1 else 'them'}, and name all {of} parts."
        )
    if parts[0].facts.origin.code != code.digest(f"components.{parts[0].STEP.partition(' ')[0]}"):
        raise DataRefused(f"{parts[0].path} and the other parts: made by other code than this one. Run all again.")
    return [by_number[number] for number in range(1, of + 1)]


def _check_origin(part: P, all_parts: Sequence[P]) -> None:
    """Check that a part was made from and with what most parts were made from and with."""
    every = Counter(each.facts.origin.model_dump_json() for each in all_parts)
    usual = next(p for p in all_parts if p.facts.origin.model_dump_json() == every.most_common(1)[0][0])
    if difference := next(_differences(part.facts.origin, usual.facts.origin), None):
        raise DataRefused(
            f"{part.path}, part {part.facts.part}/{part.facts.origin.parts}, does not belong to {usual.path}: made "
            f"with {difference}. Run `mura {part.STEP}` for it as for the others."
        )


def _differences(mine: Origin, usual: Origin) -> Iterator[str]:
    """In what two origins differ, in words."""
    one, other = mine.model_dump(mode="json"), usual.model_dump(mode="json")
    for name, about in NAMES.items():
        if one.get(name) != other.get(name):
            yield about
    for name in NESTED:
        for key in sorted({*(one.get(name) or {}), *(other.get(name) or {})}):
            a, b = ((each.get(name) or {}).get(key) for each in (one, other))
            if a != b:
                yield f"{key} {a!r:.60}, not {b!r:.60}"
