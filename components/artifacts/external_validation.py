"""How good a registered version is on other labelled data."""

from pathlib import Path

from components.artifacts.artifact import Artifact, Facts, Provenance
from components.artifacts.evaluation import Groups, RawAndCalibrated, Scores, SplitScores
from components.base.names import Name

METRICS = "metrics.json"
PREDICTIONS = "predictions.parquet"
STUDIES = "studies.parquet"
REFUSED = "refused.csv"
REPORT = "report.html"


class Version(Facts):
    """The version that was measured: nothing of it was chosen on these data."""

    model: str
    """Name of the registered model."""
    version: int
    candidate: Name
    architecture: Name
    model_digest: str
    evaluation_digest: str
    """Which froze calibration and threshold."""
    data_digest: str
    """The data that it was made with."""
    operating_point: str
    scores: Scores
    """On those data, with the threshold."""


class Refusals(Facts):
    """Pictures without an answer for one reason."""

    why: str
    images: int


class Counts(Facts):
    """What became of the pictures and studies of the archive."""

    images: int
    """Listed, or in the archive."""
    refused: tuple[Refusals, ...]
    """By reason, the most frequent first."""
    studies: int
    """With a label."""
    unanswered_normal: int
    """Studies without a picture that could be used."""
    unanswered_abnormal: int
    compared_with: str | None
    """Digest of the data set whose pictures were left out where they are the same file; None if none was compared."""


class Worst(Facts):
    """The rates if each study without an answer had got the wrong one; no intervals: it is a bound."""

    sensitivity: float
    specificity: float


class ExternalFacts(Facts):
    """Which version, on which data, with which scores."""

    version: Version
    archive: str
    """Its name."""
    data_digest: str
    """sha256 of the names, the labels and the bytes of all pictures that were answered."""
    code_revision: Provenance[str]
    counts: Counts
    scores: SplitScores
    """At the frozen threshold, of the studies with an answer."""
    worst: Worst
    reliability: RawAndCalibrated
    pooled_parts: tuple[str, ...]
    """Body parts that the model learned nothing of: their studies have the pooled offset."""
    slices: dict[str, Groups]


class ExternalValidation(Artifact[ExternalFacts]):
    """The result of `mura evaluate --archive`: a registered version on other labelled data. Nothing was chosen on them.

    external/
        card.json
        metrics.json          the scores with intervals, what was refused, the scores at home beside them
        predictions.parquet   one row per picture that was answered: image, study, patient, body_part, abnormal,
                              sha256, logit
        studies.parquet       one row per study: study, patient, body_part, abnormal, views, logit, offset,
                              probability
        refused.csv           one row per picture without an answer: image, study, why
        report.html           the same for people
    """

    FACTS = ExternalFacts
    STEP = "evaluate"
    CONTENT = (METRICS, PREDICTIONS, STUDIES, REFUSED)

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.path / REPORT
