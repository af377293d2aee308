"""Flags are read from a step's signature."""

from pathlib import Path

from components.artifacts.manifest import Manifest, ValidManifest
from components.cli import steps
from components.params.validate import ValidateParams


def step(
    manifest: Manifest, others: list[Manifest], seed: int, params: ValidateParams, out: Path, like: Manifest | None
) -> ValidManifest:
    raise NotImplementedError


def test_a_signature_says_what_may_be_repeated_and_what_left_out() -> None:
    told = {each.flag: (each.kind, each.many, each.optional) for each in steps.inputs_of(step)}
    assert told == {
        "--manifest": (Manifest, False, False),
        "--other": (Manifest, True, False),
        "--seed": (int, False, False),
        "--params": (ValidateParams, False, False),
        "--like": (Manifest, False, True),
    }


def test_what_may_be_left_out_is_no_required_flag_and_reads_as_none() -> None:
    inputs = {each.name: each for each in steps.inputs_of(step)}
    assert steps._option("validate", inputs["manifest"]).required
    option = steps._option("validate", inputs["like"])
    assert not option.required
    assert option.help is not None
    assert option.help.endswith("Optional.")
    assert steps._argument(inputs["like"], None) is None
