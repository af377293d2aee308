"""The section `tune`: names and ranges are checked against the choices of `train`."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.base.errors import UsageError
from components.params.document import read_params

ROOT = Path(__file__).parents[2]


def read(tmp_path: Path, section: dict[str, Any]) -> Any:
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    document["tune"] = {"folds": 3, "default": {}, "candidates": {}} | section
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(document))
    return read_params(file).tune


def test_ranges_and_lists_are_read(tmp_path: Path) -> None:
    space = {
        "learning_rate": {"low": 0.0001, "high": 0.01, "log": True},
        "rotation": {"low": 0, "high": 30},
        "epochs": {"low": 2, "high": 9},
        "flip": {"choices": [True, False]},
        "class_weighting": {"choices": ["none", "body_part"]},
        "batch_size": {"choices": [16, 32]},
    }
    found = read(tmp_path, {"default": space, "candidates": {"custom_cnn": {"width": {"choices": [16, 32]}}}})
    assert found.default["learning_rate"].ends == (0.0001, 0.01)
    assert found.default["flip"].ends == (True, False)
    assert found.candidates["custom_cnn"]["width"].ends == (16, 32)


RANGES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "an unknown choice": ("learning_rat: expected one of epochs, ", "learning_rat", {"low": 0.1, "high": 1}),
    "what a candidate is": ("architecture: expected one of", "architecture", {"choices": ["vgg16", "vgg19"]}),
    "patience": ("patience: expected one of", "patience", {"low": 1, "high": 3}),
    "a value out of bounds": (
        "dropout: should be less than 1, found 1.0",
        "dropout",
        {"low": 0.0, "high": 1.0},
    ),
    "half an epoch": ("epochs: should be a valid integer, found 1.5", "epochs", {"low": 1.5, "high": 3}),
    "a range of words": ("class_weighting: expected choices", "class_weighting", {"low": 1, "high": 2}),
    "an unknown word": (
        "class_weighting: should be 'body_part' or 'none', found 'all'",
        "class_weighting",
        {"choices": ["all", "none"]},
    ),
    "an empty range": ("expected low < high, found 0.1 and 0.1", "dropout", {"low": 0.1, "high": 0.1}),
    "half a range": ("expected low and high, or choices", "dropout", {"low": 0.1}),
    "both": ("found both", "dropout", {"low": 0.1, "high": 0.2, "choices": [0.1, 0.2]}),
    "one choice": ("choices: expected two or more that differ", "dropout", {"choices": [0.1]}),
    "a logarithm of 0": ("log: expected a low above 0, found 0.0", "dropout", {"low": 0.0, "high": 0.5, "log": True}),
    "a misspelt key": ("no such choice; did you mean high", "dropout", {"low": 0.0, "hgh": 0.5}),
}


@pytest.mark.parametrize(("says", "name", "sought"), RANGES.values(), ids=RANGES)
def test_a_range_that_cannot_be_is_refused_in_one_line(
    tmp_path: Path, says: str, name: str, sought: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match=re.escape(says)) as error:
        read(tmp_path, {"default": {name: sought}})
    assert "\n" not in str(error.value)
    assert "tune.default" in str(error.value)


def test_a_candidate_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tune\.candidates: no candidate wide; there are custom_cnn, "):
        read(tmp_path, {"candidates": {"wide": {}}})
