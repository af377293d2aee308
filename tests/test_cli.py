"""Flags are read from a step's signature."""

from pathlib import Path

from components import cli
from components.artifacts.manifest import Manifest, ValidManifest
from components.params.validate import ValidateParams


def step(
    manifest: Manifest, others: list[Manifest], seed: int, params: ValidateParams, out: Path, like: Manifest | None
) -> ValidManifest:
    raise NotImplementedError


def test_a_signature_says_what_may_be_repeated_and_what_left_out() -> None:
    told = {each.flag: (each.kind, each.many, each.optional) for each in cli.inputs_of(step)}
    assert told == {
        "--manifest": (Manifest, False, False),
        "--other": (Manifest, True, False),
        "--seed": (int, False, False),
        "--params": (ValidateParams, False, False),
        "--like": (Manifest, False, True),
    }


def test_what_may_be_left_out_is_no_required_flag_and_reads_as_none() -> None:
    inputs = {each.name: each for each in cli.inputs_of(step)}
    assert cli._option("validate", inputs["manifest"]).required
    option = cli._option("validate", inputs["like"])
    assert not option.required
    assert option.help is not None
    assert option.help.endswith("Optional.")
    assert cli._argument(inputs["like"], None) is None
