"""Prove a manifest, or refuse it.

proof.py            the step; outcome.py: what it finds
tables.py           the manifest, arranged for expectations.py; drift.py: comparison with a reference
pieces.py           a table that is larger than the memory
expectations.py     what the data must be, and why; suite.py runs them, great_expectations.py imports the library
duplicates.py       copies of pictures, by hash_lookup.py, warps.py and alignment.py
results.py          the outcomes for programs
page.py             the report for people, with pictures.py and drawings.py; data_docs.py: the library's own page
explanation.py      `mura validate --explain`
"""

from pathlib import Path

from components.archive.archive import Archive
from components.artifacts.manifest import Manifest, ValidManifest
from components.base.step import Declaration, Question
from components.params.validate import ValidateParams


def validate(
    archive: Archive, manifest: Manifest, params: ValidateParams, out: Path, reference: Manifest | None = None
) -> ValidManifest:
    """Check everything in a manifest that training relies on.

    The reports are written in all cases. If a gate fails, the data is refused; if a warning fails, it is
    reported.
    `mura validate --explain MEMBER` describes one image and what the last validation found about it.

    Args:
        archive: the archive that the manifest describes. The report shows pictures from it.
        manifest: the table, as ingested.
        params: what the data must be.
        out: the directory of the ValidManifest.
        reference: an earlier manifest. Differences to it are reported.

    Raises:
        DataRefused: a gate does not hold (`keep` is the directory of the reports), or the archive is another one.
    """
    from components.validate import proof

    return proof.run(archive, manifest, params, out, reference)


def explain(member: str, flags: dict[str, Path | None]) -> str:
    """Describe one image and what the last validation found about it.

    Args:
        member: the image's name or a part of it.
        flags: the command's other flags. `manifest` and `out` are used.
    """
    from components.validate import explanation

    manifest = Manifest.read(flags["manifest"] or Path("artifacts/manifest"))
    return explanation.explain(member, manifest, flags["out"] or Path("artifacts/valid_manifest"))


DECLARES = Declaration(
    questions=(
        Question(
            "--explain",
            "MEMBER",
            "Describe one image and what the last validation found about it, then exit. MEMBER is the image's name or "
            "a part of it. No other flag is needed. Read from --manifest and --out [default: artifacts/manifest, "
            "artifacts/valid_manifest].",
            explain,
        ),
    )
)
