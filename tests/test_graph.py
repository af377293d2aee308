"""dvc.yaml calls the steps with the flags that their signatures have, on what the stages before made."""

import re
from pathlib import Path

import pytest
import yaml

from components.archive.archive import Archive
from components.archive.overlay import Overlay
from components.base.step import ANALYSES, STEPS
from components.cli import settings, steps

ROOT = Path(__file__).parents[1]
PLACES = {Archive: "${archive}", Overlay: "${labels.overlay}"}
EVERY = (*STEPS, *ANALYSES)
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


@pytest.mark.parametrize("step", EVERY)
def test_a_stage_depends_on_its_settings(step: str) -> None:
    found = [dep for dep in STAGES[step]["deps"] if dep.startswith("artifacts/settings")]
    candidate = "${item.candidate}" if step in settings.SECTIONS_BY_ENTRY else None
    assert found == [str(settings.file_of(Path("artifacts/settings"), step, candidate))]


@pytest.mark.parametrize("step", EVERY)
def test_a_stage_calls_its_step_with_flags_the_step_has(step: str) -> None:
    inputs = steps.inputs_of(steps.step_function(step))
    made = {each.flag for each in inputs if each.is_artifact and not each.optional}
    assert STAGES[step]["cmd"].startswith(f"mura {step} ")
    assert set(re.findall(r"--[a-z-]+", STAGES[step]["cmd"])) == made | {"--settings", "--out"}


def test_no_value_of_the_choices_stands_in_a_command_or_beside_it() -> None:
    drawing = yaml.safe_load((ROOT / "data" / "dvc.yaml").read_text())["stages"]["phantom"]
    for name, stage in {**STAGES, "phantom": drawing}.items():
        # DVC writes a dictionary as flags, and quotes their values.
        filled_in = re.findall(r"\$\{[^}]*\}", stage["cmd"])
        assert filled_in == (["${item}"] if name in settings.BY_CANDIDATE else [])
        # DVC would write down what it finds in params.yaml when the stage ends.
        assert "params" not in stage


@pytest.mark.parametrize("step", EVERY)
def test_a_stage_depends_on_what_its_command_reads_and_owns_what_it_writes(step: str) -> None:
    stage, inputs = STAGES[step], steps.inputs_of(steps.step_function(step))
    # In a command {candidate} is one name where the stage is of one candidate, else all of them.
    one = {"{candidate}": "${item.candidate}"} if step in settings.BY_CANDIDATE else {"/{candidate}": ""}
    ((name, put),) = one.items()
    given = {flag: path.replace(name, put) for flag, path in re.findall(r"(--[a-z-]+) (\S+)", stage["cmd"])}
    read = {given[each.flag] for each in inputs if each.is_artifact and not each.optional}
    read |= {PLACES[each.kind] for each in inputs if each.kind in PLACES}
    assert {dep for dep in stage["deps"] if not dep.startswith("artifacts/settings")} == read
    outs = [*stage["outs"], *stage.get("metrics", ()), *(name for each in stage.get("plots", ()) for name in each)]
    assert f"{given['--out']}.made.json" in outs
    assert all(out.startswith((given["--out"], f"{given['--out']}/")) for out in outs)


def test_no_candidate_is_named() -> None:
    text = (ROOT / "dvc.yaml").read_text()
    for params in ("params.yaml", "params.mura.yaml"):
        for name in yaml.safe_load((ROOT / params).read_text())["train"]["candidates"]:
            assert name not in text
