"""Which image goes into which file. The rows stay in columns, of which each file's are taken when it is its turn."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.artifacts.manifest import SPLITS, TABLE, TRAIN, ValidManifest
from components.artifacts.shards import Cohort, PartFacts, ShardsFacts, SplitFacts, ascending_digest
from components.params.shard import ShardParams
from components.shard.records import Job, Row

Places = NDArray[np.int64]

# Columns whose words are repeated.
REPEATED = ("split", "study", "patient", "body_part")
# Rows that are looked at at once.
PIECE = 65_536


class Planned(NamedTuple):
    """A file to write."""

    split: str
    name: str
    rows: Places
    """Where its records' rows are in the table, in reading order."""


class Plan(NamedTuple):
    """The files of a data set. They follow from the manifest and the parameters."""

    files: list[Planned]
    """In reading order."""
    facts: ShardsFacts
    columns: dict[str, pa.Array]
    """Of the manifest."""

    @classmethod
    def of(cls, manifest: ValidManifest, params: ShardParams) -> "Plan":
        """Plan the shards of a manifest.

        Args:
            manifest: validated rows.
            params: image size and images per file.
        """
        columns = {name: _column(manifest.path / TABLE, name) for name in ("split", *Row._fields)}
        ascending = _ascending(columns["image"])
        split = columns.pop("split")
        places = {name: ascending[pc.equal(split, name).to_numpy(zero_copy_only=False)[ascending]] for name in SPLITS}
        files = {name: _files(columns["image"], places[name], name, params) for name in SPLITS}
        facts = ShardsFacts(
            image_size=params.image_size,
            data_digest=manifest.facts.data_digest,
            archive_md5=manifest.facts.archive_md5,
            splits={name: _split_facts(columns, places[name], files[name]) for name in SPLITS},
            train_images=_parts(columns, places[TRAIN]),
        )
        return cls([file for name in SPLITS for file in files[name]], facts, columns)

    def jobs(self, files: Sequence[Planned], folder: Path) -> Iterator[Job]:
        """What workers get, one file after the other.

        Args:
            files: some of the files.
            folder: where they are written.
        """
        for file in files:
            rows = self.table(file.rows)[list(Row._fields)].itertuples(index=False, name=None)
            every = [
                Row(str(image), str(sha256), str(study), str(patient), str(part), int(abnormal))
                for image, sha256, study, patient, part, abnormal in rows
            ]
            yield Job(file.split, folder / file.name, every, self.facts.image_size)

    def table(self, rows: Places) -> pd.DataFrame:
        """Some rows."""
        return _table(self.columns, rows)


def _column(path: Path, name: str) -> pa.Array:
    words = [name] if name in REPEATED else None
    return pq.read_table(path, columns=[name], read_dictionary=words)[name].unify_dictionaries().combine_chunks()


def _ascending(image: pa.Array) -> Places:
    """Rows in ascending order of their names."""
    # As `mura ingest` writes them; sorting would take as much memory again.
    if pc.all(pc.greater(image[1:], image[:-1]), skip_nulls=False).as_py():
        return np.arange(len(image))
    order: Places = pc.sort_indices(image).to_numpy().astype(np.int64)
    return order


def _table(columns: dict[str, pa.Array], rows: Places) -> pd.DataFrame:
    return pd.DataFrame({name: column.take(pa.array(rows)).to_pandas() for name, column in columns.items()})


def _files(image: pa.Array, ascending: Places, split: str, params: ShardParams) -> list[Planned]:
    """The files of a split and the rows of each."""
    rows = _shuffled(image, ascending) if split == TRAIN else ascending
    starts = range(0, len(rows), params.images_per_shard)
    return [
        Planned(
            split, f"{split}-{number:05d}-of-{len(starts):05d}.tfrecord", rows[start : start + params.images_per_shard]
        )
        for number, start in enumerate(starts)
    ]


def _shuffled(image: pa.Array, rows: Places) -> Places:
    """Rows in the order of the hashes of their names: neighbours in the archive are views of one study."""
    hashes = np.empty((len(rows), 4), ">u8")
    for start in range(0, len(rows), PIECE):
        names = image.take(pa.array(rows[start : start + PIECE])).to_pylist()
        digests = b"".join(hashlib.sha256(name.encode()).digest() for name in names)
        hashes[start : start + PIECE] = np.frombuffer(digests, ">u8").reshape(-1, 4)
    # The last of the keys counts most.
    order: Places = np.lexsort(hashes.T[::-1])
    return np.asarray(rows[order])


def _split_facts(columns: dict[str, pa.Array], ascending: Places, files: list[Planned]) -> SplitFacts:
    identity = {name: columns[name] for name in ("image", "sha256", "abnormal")}
    pieces = (ascending[start : start + PIECE] for start in range(0, len(ascending), PIECE))
    whole = _cohort(columns, ascending)
    return SplitFacts(
        images=whole.images,
        studies=whole.studies,
        patients=whole.patients,
        abnormal_studies=whole.abnormal_studies,
        body_parts=dict(_by_part(columns, ascending)),
        abnormal=pc.sum(columns["abnormal"].take(pa.array(ascending))).as_py() or 0,
        files=tuple(file.name for file in files),
        records=tuple(len(file.rows) for file in files),
        digest=ascending_digest(_table(identity, piece) for piece in pieces),
    )


def _by_part(columns: dict[str, pa.Array], rows: Places) -> Iterator[tuple[str, Cohort]]:
    """Who is in each body part of a split, by its name, ascending."""
    part = _numbered(columns["body_part"])[rows]
    names = dict(enumerate(columns["body_part"].dictionary.to_pylist()))
    for number in sorted(set(part.tolist()) & set(names), key=names.__getitem__):
        yield names[number], _cohort(columns, rows[part == number])


def _cohort(columns: dict[str, pa.Array], rows: Places) -> Cohort:
    study, patient = (_numbered(columns[name])[rows] for name in ("study", "patient"))
    studies, first = np.unique(study, return_index=True)
    abnormal = columns["abnormal"].take(pa.array(rows[first]))
    return Cohort(
        images=len(rows),
        studies=len(studies),
        abnormal_studies=pc.sum(abnormal).as_py() or 0,
        patients=len(np.unique(patient)),
    )


def _numbered(words: pa.Array) -> Places:
    """The places of repeated words in their dictionary; -1 where there is none."""
    numbers: Places = pc.fill_null(words.indices, -1).to_numpy(zero_copy_only=False)
    return numbers


def _parts(columns: dict[str, pa.Array], rows: Places) -> dict[str, PartFacts]:
    """Images by body part and label."""
    table = _table({name: columns[name] for name in ("body_part", "abnormal")}, rows)
    counted = table.groupby("body_part", observed=True)["abnormal"]
    counts = {str(part): (int((labels == 0).sum()), int((labels == 1).sum())) for part, labels in counted}
    return {part: PartFacts(normal=normal, abnormal=abnormal) for part, (normal, abnormal) in sorted(counts.items())}
