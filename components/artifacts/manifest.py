"""What is in an archive, image by image."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from pydantic import Field

from components.artifacts.artifact import Artifact, Facts, Provenance
from components.base.names import Name
from components.base.words import in_words

if TYPE_CHECKING:
    import pandas

TABLE = "manifest.parquet"
# Of a validation. Only the report has pictures in it; the others may be shown where the archive may not be.
REPORT = "report.html"
DATA_DOCS = "data_docs.html"
SUMMARY = "validation.json"
OFFENDERS = "offenders.parquet"
DUPLICATES = "duplicates.parquet"

BODY_PARTS = ("elbow", "finger", "forearm", "hand", "humerus", "shoulder", "wrist")
Kept = Literal["view_position", "manufacturer", "sex", "age"]
KEPT: tuple[Kept, ...] = get_args(Kept)
"""What an archive of somebody's own may say of its images: columns of the table, and slices of the protocol."""
TRAIN, TUNING, TEST = SPLITS = ("train", "tuning", "test")
LABEL_NAMES = ("normal", "abnormal")
"""The names of the labels 0 and 1."""


class ManifestFacts(Facts):
    """Counts that the table must agree with, and what was left out of it."""

    archive: Provenance[str]
    archive_md5: Provenance[str | None] = None
    """The name DVC gives the archive, the md5 of its bytes; None for a directory."""
    images: int
    studies: int
    patients: int
    sidecars: int
    """AppleDouble `._*` files, which macOS leaves in archives; not images."""
    others: tuple[str, ...]
    """Files that are neither images, sidecars nor the four CSVs."""
    overlay_digest: str | None = None
    """Which second opinions on labels lie beside the official ones; None if there are none."""
    overlay_studies: int = 0
    """Studies with a second opinion."""
    body_parts: tuple[Name, ...] | None = None
    """The body parts that were chosen; None for all of the archive."""
    empty_studies: int = 0
    """Labelled studies of which there is no image. They are in no row."""
    left_out_images: int = 0
    """Images of other body parts."""
    left_out_studies: dict[str, int] = Field(default_factory=dict)
    """Studies of other body parts, by part."""

    # The next three are left out where nothing was said: the cards and digests of other archives do not have them.
    max_members: Provenance[int | None] = Field(default=None, exclude_if=lambda value: value is None)
    """Files that the archive may have, where params.yaml says it; None for the limit of every archive."""
    archive_parts: tuple[Name, ...] | None = Field(default=None, exclude_if=lambda value: value is None)
    """The body parts that the archive says it has; None for MURA's seven."""
    kept: tuple[Kept, ...] = Field(default=(), exclude_if=lambda value: not value)
    """What else it says of its images: columns at the end of the table, in the order of KEPT."""

    @property
    def known_parts(self) -> tuple[str, ...]:
        """The body parts that an image may be of."""
        return self.body_parts or self.archive_parts or BODY_PARTS

    @property
    def what(self) -> str:
        """The data set in a few words: `MURA-v1.1.zip`, or `elbow and wrist of MURA-v1.1.zip`."""
        return f"{in_words(self.body_parts)} of {self.archive}" if self.body_parts else self.archive


class Manifest(Artifact[ManifestFacts]):
    """One row per image, listed or found, each read once.

    manifest/
        card.json
        manifest.parquet

    Columns of the table, one row per image, ascending by `image`:

        image           str     member of the archive: MURA-v1.1/train/XR_WRIST/patient00001/study1_positive/image1.png
        study           str     the directory of the member, MURA-v1.1/train/XR_WRIST/patient00001/study1_positive
        patient         str     patient00001; the number is the same over body parts
        body_part       str     one of BODY_PARTS, or what the directory says, lower case; an archive of somebody's own
                                says which it has (`archive_parts`)
        view            Int64   the number in the file name
        source_split    str     train or valid, as published
        split           str     train, tuning (carved out of the published train by patient), test (the published
                                valid)
        abnormal        Int64   label of the study by the CSV: 1 abnormal, 0 normal, missing if the CSV has none
        overlay         Int64   second opinion on the study's label, missing where there is none; it decides nothing,
                                evaluation tells what it would change
        overlay_source, overlay_reason
                        str     who says so, and why
        directory_label Int64   label of the study by its directory's name: 1 positive, 0 negative
        listed          bool    a row of the CSV names it
        found           bool    the archive holds it
        problem         str     why it could not be read or decoded; missing if it could
        bytes           Int64   size of the PNG file
        sha256          str     of the PNG file
        width, height   Int64   pixels
        mode            str     L, RGB, ... as Pillow calls it
        channel_difference
                        Int64   how far red, green and blue of a pixel lie apart at most, 0 to 255; 0 for
                                MURA, whose RGB pictures are grey
        pixels_sha256   str     of height, width and grey levels as decoded: the same for the same picture in another
                                file
        mean, std       Float64 of the grey levels, 0 black to 255 white
        low, median, high
                        Int64   levels that 1 %, 50 % and 99 % of the pixels do not exceed
        black, white    Float64 shares of pixels of level 5 or less, of 250 or more; like the levels before, of every
                                second, third ... row if there are 256 or more
        frame           Float64 share of the area that is frame: rows and columns at the edges whose levels span 16 or
                                less; 1 for a blank picture
        rim, centre     Float64 mean levels of the outermost tenth on every side and of the middle half, within the
                                frame; `rim` far above `centre` is an inverted picture
        phash           str     64-bit perceptual hash, 16 hex digits
        spectrum        bytes   int8 [16, 16], for `components.xray.signature.low_frequencies`
        view_position, manufacturer, sex, age
                        str     only in a table of an archive that says it (`kept`): how and by whose device the image
                                was made, of whom; age in decades, such as 40-49; missing where it is not known
    """

    FACTS = ManifestFacts
    STEP = "ingest"
    CONTENT = (TABLE,)

    @property
    def table(self) -> "pandas.DataFrame":
        """The rows, read anew."""
        return read_table(self.path / TABLE)


class ValidManifestFacts(ManifestFacts):
    """A manifest's facts, and the verdict."""

    manifest_digest: str
    data_digest: str
    """The data set's identity: sha256 over members, their sha256, labels and splits."""
    expectations: int
    warnings: tuple[str, ...]


class ValidManifest(Artifact[ValidManifestFacts]):
    """The result of `mura validate`: a manifest for which all gates hold.

    valid_manifest/
        card.json
        manifest.parquet    the same table
        report.html         what was found, for people, with pictures
        validation.json     every expectation and its outcome; components/validate/results.py documents the keys
        offenders.parquet   everything that is not as expected
        duplicates.parquet  pairs of pictures that are one, as `components.validate.duplicates.find` gives them
        data_docs.html      Great Expectations' own page
    """

    FACTS = ValidManifestFacts
    STEP = "validate"
    CONTENT = (TABLE,)

    @property
    def table(self) -> "pandas.DataFrame":
        """The rows, read anew."""
        return read_table(self.path / TABLE)


def read_table(path: Path) -> "pandas.DataFrame":
    """A manifest's rows with the dtypes that `Manifest` promises."""
    import pandas

    return pandas.read_parquet(path)
