"""dvc.yaml names the modules each step imports, neither more nor fewer."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from components.base import provenance
from components.cli import steps

ROOT = Path(__file__).parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def imported(path: Path) -> set[Path]:
    """Project modules that a module imports itself."""
    return {file for name in provenance._imports(path) for file in provenance._files_of(name)}


def data_files(files: set[Path]) -> set[Path]:
    """What lies beside the modules of a package and is read by them: templates."""
    return {
        other
        for file in files
        if file.name == "__init__.py" and file.parent != ROOT / "components"
        for other in file.parent.iterdir()
        if other.is_file() and other.suffix in (".html", ".j2")
    }


def stage_of(name: str) -> dict:
    return STAGES[name].get("do", STAGES[name])


@pytest.mark.parametrize("step", steps.STEPS)
def test_a_stage_depends_on_exactly_the_modules_its_step_imports(step: str) -> None:
    modules = provenance.sources(f"components.{step}")
    expected = {str(path.relative_to(ROOT)) for path in modules | data_files(modules)}
    declared = {dep for dep in stage_of(step)["deps"] if dep.startswith("components/")}
    assert declared == expected


@pytest.mark.parametrize("step", steps.STEPS)
def test_a_stage_calls_its_step_with_flags_the_step_has(step: str) -> None:
    inputs = steps.inputs_of(steps.step_function(step))
    flags = {each.flag for each in inputs} | {"--out"}
    optional = {each.flag for each in inputs if each.optional}
    used = set(re.findall(r"--[a-z-]+", stage_of(step)["cmd"]))
    assert stage_of(step)["cmd"].startswith(f"mura {step} ")
    assert used <= flags
    assert flags - used <= {"--params"} | optional


@pytest.mark.parametrize("step", steps.STEPS)
def test_a_stage_depends_on_every_artifact_its_command_reads(step: str) -> None:
    stage = stage_of(step)
    flags = {
        each.flag for each in steps.inputs_of(steps.step_function(step)) if not each.is_section and each.kind is not int
    }
    read = {path for flag, path in re.findall(r"(--[a-z-]+) (\S+)", stage["cmd"]) if flag in flags}
    written = set(re.findall(r"--out (\S+)", stage["cmd"]))
    assert read == {dep for dep in stage["deps"] if not dep.startswith("components/")}
    assert written == set(stage["outs"])


def test_every_architecture_is_trained_registered_measured_and_plotted() -> None:
    text = (ROOT / "dvc.yaml").read_text()
    for params in ("params.yaml", "params.mura.yaml"):
        architectures = list(yaml.safe_load((ROOT / params).read_text())["train"])
        assert set(re.findall(r"artifacts/model/(\w+)", text)) == set(architectures)
        for architecture in architectures:
            assert f"--model artifacts/model/{architecture} " in text
            assert f"artifacts/evaluation/{architecture}/summary.json" in text
            assert f"artifacts/evaluation/{architecture}/plots/roc.csv" in text


LAYERS = {"base": 0, "artifacts": 1, "params": 1, "cli": 4} | dict.fromkeys(steps.STEPS, 3)


def layer(path: Path) -> int:
    """errors, storage <- artifacts, params <- helpers <- steps <- cli."""
    parts = path.relative_to(ROOT / "components").with_suffix("").parts
    return LAYERS.get(parts[0], 2)


def test_imports_go_one_way() -> None:
    for path in (ROOT / "components").rglob("*.py"):
        name = path.relative_to(ROOT / "components").with_suffix("").parts[0]
        for other in imported(path):
            other_name = other.relative_to(ROOT / "components").with_suffix("").parts[0]
            assert layer(other) <= layer(path) or other_name == "__init__", f"{path} imports {other}"
            if layer(path) == 3 == layer(other):
                assert name == other_name, f"step {name} imports step {other_name}"


@pytest.mark.parametrize(
    ("library", "rooms"),
    [("mlflow", {"tracking"}), ("great_expectations", {"validate"}), ("kfp", set())],
)
def test_a_library_is_imported_in_its_room_only(library: str, rooms: set[str]) -> None:
    for path in (ROOT / "components").rglob("*.py"):
        room = path.relative_to(ROOT / "components").with_suffix("").parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", "") or ""]
            )
            if isinstance(node, ast.Import | ast.ImportFrom) and any(n.split(".")[0] == library for n in names):
                assert room in rooms, f"{path} imports {library}"
