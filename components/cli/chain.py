"""`mura verify`: the way from an archive to a registered version and what was decided about it, link by link."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from components.archive.archive import Archive
from components.artifacts.artifact import Artifact
from components.artifacts.evaluation import Evaluation
from components.artifacts.evidence import Evidence
from components.artifacts.manifest import ValidManifest
from components.artifacts.registration import RegisteredModel
from components.artifacts.shards import Shards
from components.artifacts.trained_model import ENSEMBLE, TrainedModel
from components.base.errors import DataRefused, MuraError, UsageError
from components.cli import settings
from components.params import DEFAULT
from components.params.document import read_params
from components.tracking import audit, examined, model_registry
from components.tracking.examined import Examined
from components.tracking.model_registry import Named

ARTIFACTS = Path("artifacts")
"""What is looked at unless another place is named."""
STATES = {True: "ok", False: "broken", None: "not looked at"}


class Link(NamedTuple):
    """A link of the chain."""

    name: str
    passed: bool | None
    """None if it could not be looked at here."""
    words: str


class Chain(NamedTuple):
    """All links of a version, from the archive to the record of decisions."""

    named: Named
    links: tuple[Link, ...]

    @property
    def broken(self) -> Link | None:
        """The first broken link."""
        return next((link for link in self.links if link.passed is False), None)


def walk(uri: str, artifacts: Path | None, archive: str | None) -> Chain:
    """Look at every link of a version.

    Args:
        uri: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        artifacts: directory with what `dvc repro` made; None: `artifacts`, if it is here. What was made of other data
            or other weights there is no broken link: it belongs to another version.
        archive: the archive; None: that of params.yaml, if it is a file here. The same holds for it.

    Raises:
        UsageError: there is no such version, or nobody is trusted here.
        ServiceUnreachable: MLflow does not answer.
    """
    named = model_registry.named(uri)
    found = examined.examine(named)
    if (said := found.evidence) is None:
        unlooked = "the evidence of the version says what they should be, and is not believed"
        local = [Link(name, None, unlooked) for name in ("archive", "manifest", "shards", "model", "evaluation")]
        return Chain(named, (*local, *_unbelieved(found)))
    record = _record(named, said)
    return Chain(named, (_archive(said, archive), *_local(said, artifacts), *_registered(said, found), record))


def as_json(chain: Chain) -> str:
    """One JSON object."""
    broken = chain.broken
    return json.dumps(
        {
            "model": chain.named.name,
            "version": chain.named.version,
            "verified": broken is None,
            "broken": broken and broken.name,
            "links": [{"link": each.name, "state": STATES[each.passed], "words": each.words} for each in chain.links],
        }
    )


def lines(chain: Chain) -> Sequence[str]:
    """A line for each link."""
    return [f"{STATES[each.passed]:13}  {each.name:10}  {each.words}" for each in chain.links]


def _archive(said: Evidence, named: str | None) -> Link:
    if said.archive_md5 is None:
        return Link("archive", None, "it was a directory, which has no md5")
    place = named or _archive_here()
    if place is None:
        return Link("archive", None, f"name it with --archive; its md5 should be {said.archive_md5}")
    try:
        # The bytes decide. The table of contents is not read, and may be of any size.
        md5 = Archive.find(place).md5()
    except DataRefused as error:
        return Link("archive", False, str(error))
    if md5 != said.archive_md5:
        there = f"md5 {md5}" if md5 else "a directory"
        return _other("archive", place, f"md5 {said.archive_md5}", there, named is not None)
    return Link("archive", True, f"{place}, md5 {md5}")


def _archive_here() -> str | None:
    """The archive of params.yaml, if it is a file here. One on S3 is only fetched for whoever names it."""
    try:
        place = read_params(DEFAULT).archive
    except UsageError:
        return None
    return place if Path(place).is_file() else None


def _other(link: str, place: object, expected: str, found: str, named: bool) -> Link:
    """Another thing lies at a place: a broken link where somebody named the place."""
    if named:
        return Link(link, False, f"{place}: expected {expected}, found {found}")
    return Link(link, None, f"{place} is of another version: {found}, not {expected}")


def _local(said: Evidence, named: Path | None) -> Iterator[Link]:
    """The artifacts of the pipeline: whole, and those that the version was made of."""
    facts, artifacts = said.registered, named or ARTIFACTS
    kinds: list[tuple[str, type[Artifact], str, Path]] = [  # type: ignore[type-arg]
        ("manifest", ValidManifest, facts.data_digest, Path("valid_manifest")),
        ("shards", Shards, said.shards_digest, Path("shards")),
        ("model", TrainedModel, facts.model_digest, _place("model", facts)),
        ("evaluation", Evaluation, facts.evaluation_digest, _place("evaluation", facts)),
    ]
    for name, kind, digest, place in kinds:
        if (artifacts / place / kind.CARD).is_file():
            yield _artifact(name, kind, digest, artifacts / place, named is not None)
        else:
            advice = "" if named else "; name its directory with --artifacts"
            yield Link(name, None, f"{artifacts / place}: not here{advice}; digest {digest[:12]}")


def _place(kind: str, facts: RegisteredModel) -> Path:
    return settings.place_of(kind, facts.candidate, Path(), facts.architecture == ENSEMBLE)


def _artifact(
    name: str,
    kind: type[Artifact],  # type: ignore[type-arg]
    digest: str,
    place: Path,
    named: bool,
) -> Link:
    try:
        found = kind.read(place)
    except MuraError as error:
        return Link(name, False, str(error))
    # A model knows its data by the digest that the manifest gives them.
    found_digest = found.facts.data_digest if isinstance(found, ValidManifest) else found.digest
    if found_digest != digest:
        return _other(name, place, f"digest {digest[:12]}", f"digest {found_digest[:12]}", named)
    return Link(name, True, f"{place}, digest {digest[:12]}")


def _registered(said: Evidence, found: Examined) -> Iterator[Link]:
    facts, signer = said.registered, found.signer
    yield _link("run", found.run, facts.run_id)
    yield _link("weights", found.weights, f"of the model {facts.model_digest[:12]}")
    yield _link("version", found.version, f"{facts.candidate}, test AUROC {facts.scores.test.auroc}")
    yield _link("signature", found.signature, f"by {signer}")


def _record(named: Named, said: Evidence) -> Link:
    """What was decided about the version: on the evidence that it has now?"""
    record = audit.look(named.name)
    if record.broken:
        return Link("record", False, f"{audit.name_of(named.name)} is broken: {record.broken}")
    number = str(named.version)
    last = next((each for each in reversed(record.entries) if number in each.evidence), None)
    if last is None:
        return Link("record", None, "nothing was decided about it")
    entry = f"entry {last.number} of {audit.name_of(named.name)}"
    version = said.registered.model_copy(update={"version": named.version})
    if model_registry.evidence_digest(version) != last.evidence[number]:
        return Link("record", False, f"{entry} was written about other files: the version was signed anew since")
    return Link("record", True, f"{entry}, {last.when[:10]}")


def _unbelieved(found: Examined) -> Iterator[Link]:
    """The links of a version whose evidence cannot be read."""
    for name in ("run", "version"):
        yield Link(name, None, examined.UNLOOKED if found.signature else "its files cannot be fetched")
    weights = found.weights
    yield Link("weights", False, weights) if weights else Link("weights", None, examined.UNLOOKED)
    signature = found.signature
    yield Link("signature", False, signature) if signature else Link("signature", None, "there is nothing to verify")


def _link(name: str, fault: str | None, words: str) -> Link:
    return Link(name, fault is None, fault or words)
