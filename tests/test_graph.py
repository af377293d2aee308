"""dvc.yaml calls the steps with the flags that their signatures have, on what the stages before made."""

import re
from pathlib import Path
from typing import Any

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


# The one step that two stages call: an ensemble is measured as a network is, elsewhere.
CALLS = {step: step for step in EVERY} | {"evaluate_ensemble": "evaluate"}


def outs_of(stage: dict[str, Any]) -> list[str]:
    """Everything that a stage owns. A variable of the stage says where the results of ensembles are."""
    outs = [*stage["outs"], *stage.get("metrics", ()), *(name for each in stage.get("plots", ()) for name in each)]
    (of,) = [each["of"] for each in stage.get("vars", [{"of": ""}])]
    return [each.replace("${of}", of) for each in outs]


def test_every_step_has_a_stage() -> None:
    assert set(STAGES) == {"settings", *CALLS}


@pytest.mark.parametrize("stage", CALLS)
def test_a_stage_depends_on_its_settings(stage: str) -> None:
    step = CALLS[stage]
    found = [dep for dep in STAGES[stage]["deps"] if dep.startswith("artifacts/settings")]
    candidate = "${item.candidate}" if step in settings.SECTIONS_BY_ENTRY else None
    assert found == [str(settings.file_of(Path("artifacts/settings"), step, candidate))]


@pytest.mark.parametrize("stage", CALLS)
def test_a_stage_calls_its_step_with_flags_the_step_has(stage: str) -> None:
    step = CALLS[stage]
    inputs = steps.inputs_of(steps.step_function(step))
    made = {each.flag for each in inputs if each.is_artifact and not each.optional}
    assert STAGES[stage]["cmd"].startswith(f"mura {step} ")
    assert set(re.findall(r"--[a-z-]+", STAGES[stage]["cmd"])) == made | {"--settings", "--out"}


def test_no_value_of_the_choices_stands_in_a_command_or_beside_it() -> None:
    drawing = yaml.safe_load((ROOT / "data" / "dvc.yaml").read_text())["stages"]["phantom"]
    for name, stage in {**STAGES, "phantom": drawing}.items():
        # DVC writes a dictionary as flags, and quotes their values.
        filled_in = re.findall(r"\$\{[^}]*\}", stage["cmd"])
        assert filled_in == (["${item}"] if CALLS.get(name) in settings.BY_CANDIDATE else [])
        # DVC would write down what it finds in params.yaml when the stage ends.
        assert "params" not in stage


@pytest.mark.parametrize("name", CALLS)
def test_a_stage_depends_on_what_its_command_reads_and_owns_what_it_writes(name: str) -> None:
    stage, inputs = STAGES[name], steps.inputs_of(steps.step_function(CALLS[name]))
    many = {each.flag for each in inputs if each.many}
    given: dict[str, set[str]] = {}
    for flag, path in re.findall(r"(--[a-z-]+) (\S+)", stage["cmd"]):
        # In a command {candidate} is one name where the stage is of one candidate, else all of them.
        place = re.sub(r"/\{\w+\}$", "", path) if flag in many else path.replace("{candidate}", "${item.candidate}")
        given.setdefault(flag, set()).add(place)
    read = {place for each in inputs if each.is_artifact and not each.optional for place in given[each.flag]}
    read |= {PLACES[each.kind] for each in inputs if each.kind in PLACES}
    deps = {dep for dep in stage["deps"] if not dep.startswith("artifacts/settings")}
    # A directory holds those below it.
    assert {dep for dep in deps if not any(dep.startswith(f"{other}/") for other in deps)} == deps
    assert {next(dep for dep in deps if f"{place}/".startswith(f"{dep}/")) for place in read} == deps
    (out,) = given["--out"]
    assert f"{out}.made.json" in outs_of(stage)
    assert all(each.startswith((out, f"{out}/")) for each in outs_of(stage))


def test_no_candidate_is_named() -> None:
    text = (ROOT / "dvc.yaml").read_text()
    for params in ("params.yaml", "params.mura.yaml"):
        for name in yaml.safe_load((ROOT / params).read_text())["train"]["candidates"]:
            assert name not in text
