"""Prove a manifest, or refuse it."""

from pathlib import Path

from components.archive.archive import Archive
from components.artifacts.manifest import Manifest, ValidManifest
from components.base.step import Declaration, Question
from components.params.validate import ValidateParams


def validate(
    archive: Archive, manifest: Manifest, params: ValidateParams, out: Path, reference: Manifest | None = None
) -> ValidManifest:
    """Hold a manifest against everything that training relies on.

    The reports are written in either case. A broken gate refuses the data, a broken warning is reported.
    `mura validate --explain MEMBER` says what is known of one image, and what the last validation found.

    Args:
        archive: the archive that the manifest describes; pictures of what offends are read from it.
        manifest: the table, as ingested.
        params: what the data must be.
        out: where the proven manifest is written.
        reference: an earlier manifest; what has moved since is reported.

    Raises:
        DataRefused: a gate does not hold, `keep` is the directory of the reports; or the archive is another.
    """
    from components.validate import proof

    return proof.run(archive, manifest, params, out, reference)


def explain(member: str, flags: dict[str, Path | None]) -> str:
    """What is known of one image, and what the last validation found of it.

    Args:
        member: the image's name, all of it or a part.
        flags: the command's other flags; `manifest` and `out` say where to look.
    """
    from components.validate import explanation

    manifest = Manifest.read(flags["manifest"] or Path("artifacts/manifest"))
    return explanation.explain(member, manifest, flags["out"] or Path("artifacts/valid_manifest"))


DECLARES = Declaration(
    questions=(
        Question(
            "--explain",
            "MEMBER",
            "Print what is known of one image and what the last validation found of it, and end. MEMBER is its name or "
            "a part of it. --manifest and --out say where to look "
            "[default: artifacts/manifest, artifacts/valid_manifest].",
            explain,
        ),
    )
)
