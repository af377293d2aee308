"""Protocols that tests measure under."""

from typing import Any

# The probabilities that tests draw have an exact AUROC; they are not calibrated.
PROTOCOL: dict[str, Any] = {
    "primary_metric": "auroc", "operating_point": "kappa", "target": 0.9, "slices": ["body_part"],
    "test_role": "veto", "min_gain": 0.01, "min_patients": 30, "min_auroc": 0.6,
    "min_sensitivity": 0.1, "max_calibration_excess": 0.4, "max_loss": 0.02,
}  # fmt: skip
# Few studies and an epoch teach little.
NO_FLOORS = {"min_patients": 0, "min_auroc": 0.0, "min_sensitivity": 0.0, "max_calibration_excess": 1.0}
