"""Images packed for training."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from components.artifacts.artifact import Artifact, Facts, Provenance
from components.artifacts.content import pieces
from components.base.errors import DataRefused, first_line

if TYPE_CHECKING:
    import pandas

RECORDS = "records.parquet"
IDENTITY = ["image", "sha256", "abnormal"]
# Rows that are Python's own at one time.
PIECE = 65_536


class Cohort(Facts):
    """Who is in a split, or in one body part of it."""

    images: int
    studies: int
    abnormal_studies: int
    patients: int


class SplitFacts(Facts):
    """One split's counts and files."""

    images: int
    studies: int
    patients: int
    abnormal: int
    """Images of abnormal studies."""
    abnormal_studies: int
    body_parts: dict[str, Cohort]
    """By body part, ascending. A patient with studies of two parts is in both."""
    files: tuple[str, ...]
    """In reading order."""
    records: tuple[int, ...]
    """Images in each file."""
    digest: str
    """sha256 over studies, labels and the images' sha256: which questions, and which answers."""


class PartFacts(Facts):
    """Training images of one body part, by label."""

    normal: int
    abnormal: int


class ShardsFacts(Facts):
    """What every later step asks the shards."""

    image_size: int
    data_digest: str
    archive_md5: Provenance[str | None] = None
    splits: dict[str, SplitFacts]
    train_images: dict[str, PartFacts]
    """By body part: what the loss is weighted with."""


class Shards(Artifact[ShardsFacts]):
    """Images packed for training: raw uint8 squares in TFRecords.

    shards/
        index.json                          image size, counts, files, digests
        records.parquet                     one row per record: where its pixels lie, and their checksum
        train-00000-of-00064.tfrecord ...   tf.train.Example: `pixels` is S*S bytes, row by row
        tuning-00000-of-00008.tfrecord ...
        test-00000-of-00008.tfrecord ...

    Every record holds `pixels` (bytes, S*S uint8), `image`, `study`, `patient`, `body_part` (bytes, UTF-8)
    and `abnormal` (int64): whoever has only the TFRecord files has everything. Columns of `records.parquet`, one row
    per record, in reading order:

        split       str     train, tuning, test
        file        str     the TFRecord file
        offset      int64   where in the file the pixels begin; they are S*S bytes
        crc32c      int64   CRC-32C of the pixels
        image       str     member of the archive
        sha256      str     of the PNG file the pixels were decoded from
        study, patient, body_part   str
        abnormal    int64   1 abnormal, 0 normal
    """

    FACTS = ShardsFacts
    STEP = "shard"
    CARD = "index.json"
    CONTENT = ("*.tfrecord", RECORDS)

    def files(self, split: str) -> list[Path]:
        """A split's TFRecord files in reading order."""
        return [self.path / name for name in self.facts.splits[split].files]

    def records(self) -> "pandas.DataFrame":
        """The table of records, read anew and compared with the index.

        Raises:
            DataRefused: the table is not of these shards.
        """
        import pandas

        path = self.path / RECORDS
        try:
            _check_text(path)
            table = pandas.read_parquet(path)
            wrong = [name for name, facts in self.facts.splits.items() if not _agree(table, name, facts)]
        # pyarrow has as many errors as a file has ways to be broken.
        except Exception as error:
            if isinstance(error, OSError) and error.errno:
                raise  # of the system, not of the file
            raise DataRefused(f"{path}: not a table of records ({first_line(error)}). Run `mura shard`.") from error
        if wrong or len(table) != sum(facts.images for facts in self.facts.splits.values()):
            raise DataRefused(
                f"{path}: expected the records that {self.CARD} counts, found others "
                f"({', '.join(wrong) or 'more splits'}). Is it of another data set? Run `mura shard` again."
            )
        return table


def split_digest(rows: "pandas.DataFrame") -> str:
    """A split's identity: which images, of which content, with which label.

    Args:
        rows: one per image, with `image`, `sha256` and `abnormal`, in any order.
    """
    identity = rows[IDENTITY].sort_values("image")
    return ascending_digest(identity.iloc[start : start + PIECE] for start in range(0, len(identity), PIECE))


def ascending_digest(pieces: "Iterable[pandas.DataFrame]") -> str:
    """`split_digest` of rows in ascending order of their images: of their JSON, without having all of it."""
    digest, before = hashlib.sha256(b"["), False
    for piece in pieces:
        rows = json.dumps(piece[IDENTITY].astype({"abnormal": int}).to_numpy().tolist(), separators=(",", ":"))
        digest.update(f"{',' if before else ''}{rows[1:-1]}".encode())
        before = True
    digest.update(b"]")
    return digest.hexdigest()


def _check_text(path: Path) -> None:
    """Decode all text now: pandas does so when it is asked for, and raises an error of its own where it is damaged."""
    for _, values in pieces(path):
        values.validate(full=True)


def _agree(table: "pandas.DataFrame", split: str, facts: SplitFacts) -> bool:
    rows = table[table["split"] == split]
    in_files = rows.groupby("file", sort=False).size()
    return (
        tuple(in_files.index) == facts.files
        and tuple(in_files.tolist()) == facts.records
        and split_digest(rows) == facts.digest
    )
