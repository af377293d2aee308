"""What is fixed before the test split is opened."""

from pathlib import Path

import pytest
from protocols import PROTOCOL
from pydantic import ValidationError

from components.base.errors import DataRefused
from components.params.document import read_params
from components.params.protocol import ProtocolParams

ROOT = Path(__file__).parents[2]


def test_the_digest_follows_every_choice() -> None:
    changes = [
        {}, {"primary_metric": "cohen_kappa"}, {"operating_point": "half"}, {"target": 0.6}, {"slices": []},
        {"test_role": "report"}, {"min_gain": 0.1}, {"min_patients": 1}, {"min_auroc": 0.1}, {"min_sensitivity": 0.2},
        {"max_calibration_excess": 0.1}, {"max_loss": 0.1},
    ]  # fmt: skip
    assert len(changes) == 1 + len(ProtocolParams.model_fields)
    digests = [ProtocolParams(**PROTOCOL | change).digest for change in changes]
    assert len(set(digests)) == len(changes)
    assert ProtocolParams(**dict(reversed(PROTOCOL.items()))).digest == digests[0]


def test_a_slice_is_named_once() -> None:
    with pytest.raises(ValidationError, match="expected each slice once, found body_part, body_part"):
        ProtocolParams(**PROTOCOL | {"slices": ["body_part", "body_part"]})


def test_numbers_that_an_old_protocol_lacks_are_not_made_up() -> None:
    old = {name: value for name, value in PROTOCOL.items() if name not in ("min_patients", "min_sensitivity")}
    with pytest.raises(DataRefused, match=r"card\.json: .* without min_patients and min_sensitivity: .* again"):
        ProtocolParams.of_card(old, Path("card.json"))
    assert ProtocolParams.of_card(PROTOCOL, Path("card.json")) == ProtocolParams(**PROTOCOL)


def test_no_choice_of_the_protocol_is_made_elsewhere() -> None:
    for name in ("params.yaml", "params.mura.yaml"):
        params = read_params(ROOT / name)
        for section in (params.evaluate, params.promote, params.register_):
            assert not set(type(section).model_fields) & set(ProtocolParams.model_fields)
