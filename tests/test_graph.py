"""dvc.yaml calls the steps with the flags that their signatures have, on what the stages before made."""

import re
from pathlib import Path

import pytest
import yaml

from components.base.step import STEPS
from components.cli import steps

ROOT = Path(__file__).parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def stage_of(name: str) -> dict:
    return STAGES[name].get("do", STAGES[name])


@pytest.mark.parametrize("step", STEPS)
def test_a_stage_depends_on_the_digest_of_its_code(step: str) -> None:
    code = [dep for dep in stage_of(step)["deps"] if dep.startswith("artifacts/code/")]
    assert code == [f"artifacts/code/{step}.json"]


@pytest.mark.parametrize("step", STEPS)
def test_a_stage_calls_its_step_with_flags_the_step_has(step: str) -> None:
    inputs = steps.inputs_of(steps.step_function(step))
    flags = {each.flag for each in inputs} | {"--out"}
    optional = {each.flag for each in inputs if each.optional}
    used = set(re.findall(r"--[a-z-]+", stage_of(step)["cmd"]))
    assert stage_of(step)["cmd"].startswith(f"mura {step} ")
    assert used <= flags
    assert flags - used <= {"--params"} | optional


@pytest.mark.parametrize("step", STEPS)
def test_a_stage_depends_on_what_its_command_reads_and_owns_what_it_writes(step: str) -> None:
    stage = stage_of(step)
    flags = {
        each.flag for each in steps.inputs_of(steps.step_function(step)) if not each.is_section and each.kind is not int
    }
    read = {path for flag, path in re.findall(r"(--[a-z-]+) (\S+)", stage["cmd"]) if flag in flags}
    (written,) = re.findall(r"--out (\S+)", stage["cmd"])
    deps = {dep for dep in stage["deps"] if not dep.startswith("artifacts/code/")}
    assert {path.removesuffix("/{candidate}") for path in read} == deps
    outs = [*stage["outs"], *stage.get("metrics", ()), *(name for each in stage.get("plots", ()) for name in each)]
    assert all(out == written or out.startswith(f"{written}/") for out in outs)


def test_no_candidate_is_named() -> None:
    text = (ROOT / "dvc.yaml").read_text()
    for params in ("params.yaml", "params.mura.yaml"):
        for name in yaml.safe_load((ROOT / params).read_text())["train"]["candidates"]:
            assert name not in text
