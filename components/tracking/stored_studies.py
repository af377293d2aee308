"""The probabilities of a version's studies, in its evidence: later versions are compared with it study by study.

No name of a study, a patient or a picture travels. Rows stand in the order of the studies, patients are counted. Two
versions that were measured on the same studies, which the digest of the split says, have the same rows. Each study has
a keyed id: whoever has the archive and the key that signs can tell which study a row is of, and nobody else.
"""

import hashlib
import hmac
import logging
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from mlflow import artifacts

from components.artifacts.evaluation import STUDIES, Evaluation
from components.artifacts.registration import RegisteredModel
from components.base.files import json_sha256
from components.signing import keys
from components.tracking import failures
from components.tracking.absent import is_lost

logger = logging.getLogger(__name__)

SHA256 = "studies_sha256"
"""Tag of a version that is not signed: of what its table says. Those of today have it in their evidence."""
ID = "study"
"""Column of a table in the evidence: the keyed id."""
MOST_BYTES = 1000
"""Of a row, unpacked: a table that was changed may not fill the memory."""
COLUMNS = {"split": str, "patient": np.int64, "body_part": str, "abnormal": np.int64, "probability": np.float64}


class Stored(NamedTuple):
    """A table from the store, or why there is none."""

    table: pd.DataFrame | None
    missing: str
    """In words: `its table of studies is ...`; empty if there is a table."""


def folder(evaluation_digest: str) -> str:
    """Where the reports of an evaluation and the table lie, among the files of the model's run."""
    return f"evaluation/{evaluation_digest[:12]}"


def nameless(studies: pd.DataFrame) -> pd.DataFrame:
    """The studies without names.

    Args:
        studies: the table of an evaluation; each split ascending by study.

    Returns:
        One row per study in the same order: split, patient (counted from 0 in each split, by first appearance),
        body_part, abnormal, probability.
    """
    counted = studies.groupby("split")["patient"].transform(lambda names: pd.factorize(names)[0])
    columns = {name: studies[name].to_numpy() for name in COLUMNS} | {"patient": counted.to_numpy()}
    return pd.DataFrame({name: pd.Series(columns[name]).astype(kind) for name, kind in COLUMNS.items()})


def keyed(evaluation: Evaluation) -> pd.DataFrame:
    """The table for the evidence of an evaluation: as `nameless`, with a keyed id of each study before.

    Raises:
        UsageError: there is no key that signs here.
    """
    studies = pd.read_parquet(evaluation.path / STUDIES)
    key = keys.derived("ids of studies")
    ids = [hmac.new(key, name.encode(), hashlib.sha256).hexdigest()[:32] for name in studies["study"].astype(str)]
    table = nameless(studies)
    table.insert(0, ID, pd.Series(ids, dtype=str))
    return table


def sha256(table: pd.DataFrame) -> str:
    """sha256 (hex) of what a table says, whatever library writes its file."""
    return json_sha256([[name, table[name].tolist()] for name in table])


def of_evidence(file: Path, version: RegisteredModel, expected: str) -> Stored:
    """The table of a version, without its keyed ids.

    Args:
        file: in the evidence. Its signature was verified.
        version: whose it is.
        expected: what the evidence says of it.
    """
    if not file.is_file():
        return Stored(None, "is lost from its evidence")
    try:
        table = _read(file, version.scores.tuning.n_studies + version.scores.test.n_studies)
    except (OSError, ValueError, KeyError, TypeError):
        table = None
    if table is None or list(table) != [ID, *COLUMNS] or sha256(table) != expected:
        return Stored(None, "is not that of its evidence")
    return Stored(table[list(COLUMNS)], "")


def fetch(version: RegisteredModel, expected: str | None) -> Stored:
    """Fetch the table of a version that is not signed.

    Args:
        version: whose it is.
        expected: the tag `SHA256` of it.

    Raises:
        ServiceUnreachable: the artifact store hangs.
        MlflowException and others of `failures.SERVICE_ERRORS`: MLflow or its artifact store does not answer.
    """
    if expected is None:
        return Stored(None, "was not stored: an older version of this program registered it")
    name = f"{folder(version.evaluation_digest)}/{STUDIES}"
    with TemporaryDirectory() as place:
        fetch = partial(artifacts.download_artifacts, run_id=version.run_id, artifact_path=name, dst_path=place)
        try:
            file = Path(failures.transfer("fetching the table of studies", fetch, arriving=Path(place)))
        except failures.SERVICE_ERRORS as error:
            if is_lost(error):
                return Stored(None, f"is lost from its run {version.run_id}")
            raise
        try:
            table = _read(file, version.scores.tuning.n_studies + version.scores.test.n_studies)
        except (OSError, ValueError, KeyError, TypeError):
            return Stored(None, "is damaged")
    if table is None or list(table) != list(COLUMNS) or sha256(table) != expected:
        return Stored(None, "is not the one that was stored: somebody changed it")
    return Stored(table, "")


def _read(file: Path, studies: int) -> pd.DataFrame | None:
    """Read a table of so many studies; None if it says that it has others, or is too large for them."""
    with pq.ParquetFile(file) as opened:
        said = opened.metadata
        unpacked = sum(said.row_group(number).total_byte_size for number in range(said.num_row_groups))
        if said.num_rows != studies or unpacked > MOST_BYTES * (studies + 1000):
            return None
        table: pd.DataFrame = opened.read().to_pandas()
        return table
