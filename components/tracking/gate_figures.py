"""What the gate asks of a version besides its scores."""

import pandas as pd

from components.artifacts.evaluation import STUDIES, Evaluation
from components.artifacts.manifest import TEST
from components.artifacts.registration import GateFigures


def gate_figures(evaluation: Evaluation) -> GateFigures:
    """Count the patients and studies of the test split, and take its calibration error from the card.

    Args:
        evaluation: checked: its table and its card are those of its predictions.
    """
    studies = pd.read_parquet(evaluation.path / STUDIES, columns=["split", "patient", "body_part", "abnormal"])
    test = studies[studies["split"] == TEST]
    patients = test.groupby("abnormal")["patient"].nunique()
    calibrated = evaluation.facts.reliability.test.calibrated
    return GateFigures(
        abnormal_patients=int(patients.get(1, 0)),
        normal_patients=int(patients.get(0, 0)),
        parts={str(part): int(n) for part, n in test["body_part"].value_counts().sort_index().items()},
        expected_error=calibrated.expected_error,
        expected_error_by_chance=calibrated.expected_error_by_chance,
    )
