"""The compiled pipeline: the same graph as dvc.yaml's, fit for a cluster."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import cli
from components.params.document import Params, read_params
from pipelines.compiling import Compiled, compile_pipeline

ROOT = Path(__file__).parent.parent
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
DEMO = read_params(ROOT / "params.yaml")


def with_profile(params: Params, **changes: Any) -> Params:
    return params.model_copy(update={"kubeflow": params.kubeflow.model_copy(update=changes)})


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    return compile_pipeline(with_profile(DEMO, image="registry.example/mura:golden"), code="c0de")


@pytest.fixture(scope="module")
def spec(compiled: Compiled) -> dict[str, Any]:
    found: dict[str, Any] = next(yaml.safe_load_all(compiled.text))
    return found


def test_compiling_twice_gives_the_same_text(compiled: Compiled) -> None:
    again = compile_pipeline(with_profile(DEMO, image="registry.example/mura:golden"), code="c0de")
    assert again.text == compiled.text


def test_the_defaults_of_the_arguments_are_the_committed_choices(spec: dict[str, Any], compiled: Compiled) -> None:
    inputs = spec["root"]["inputDefinitions"]["parameters"]
    assert {name: each.get("defaultValue", "") for name, each in inputs.items()} == compiled.arguments
    committed = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section in ("seed", "ingest", "validate", "shard", "evaluate", "register", "promote"):
        assert compiled.arguments[section] == committed[section]
    for architecture, choices in committed["train"].items():
        assert compiled.arguments[f"train_{architecture}"] == {"architecture": architecture, **choices}


def test_every_step_runs_its_command_with_every_flag_it_has(spec: dict[str, Any]) -> None:
    for executor in spec["deploymentSpec"]["executors"].values():
        container = executor.get("container")
        if container is None or container["command"] == ["mura", "notify"]:
            continue
        mura, step = container["command"]
        inputs = cli.inputs_of(cli.step_function(step))
        flags = {each.flag for each in inputs if not each.optional} | {"--out", "--executor-input"}
        assert (mura, {word for word in container["args"] if word.startswith("--")}) == ("mura", flags)


def test_only_placeholders_that_every_launcher_fills_are_used(compiled: Compiled) -> None:
    assert "Concat" not in compiled.text
    assert "IfPresent" not in compiled.text
    known = r"\{\{\$(|\.(inputs|outputs)\.(artifacts|parameters)\['\w+'\](\.path)?|\.pipeline_job_uuid)\}\}"
    found = set(re.findall(r"\{\{.*?\}\}", json.dumps(list(yaml.safe_load_all(compiled.text)))))
    assert found
    assert [each for each in found if not re.fullmatch(known, each)] == []
