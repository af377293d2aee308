"""The compiled pipeline: the same graph as dvc.yaml's, fit for a cluster."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.errors import UsageError
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


# A step's command: its name, and what each of its flags is given. An artifact is named by the task that made it.
Command = tuple[str, list[tuple[str, str]]]


def dvc_commands() -> dict[str, Command]:
    """The commands of dvc.yaml by Kubeflow's names of the tasks."""
    stages = {}
    for name, stage in STAGES.items():
        for entry in DEMO.train if "foreach" in stage else [""]:
            words = stage.get("do", stage)["cmd"].replace("${key}", entry).split()
            stages[f"{name}-{entry.replace('_', '-')}" if entry else name] = words
    makers = {words[words.index("--out") + 1]: task for task, words in stages.items()}
    places = {"${archive}": "archive", "${labels.overlay}": "overlay", "${seed}": "seed"}
    commands = {}
    for task, (mura, step, *words) in stages.items():
        assert mura == "mura"
        pairs = list(zip(words[::2], words[1::2], strict=True))
        given = {flag for flag, _ in pairs}
        told = [(flag, places.get(value) or makers.get(value) or value) for flag, value in pairs if flag != "--out"]
        told = [(flag, value.removeprefix("params.yaml:").replace(".", "_")) for flag, value in told]
        # A step that is not told its section takes the one of its name.
        commands[task] = (step, sorted(told + ([] if "--params" in given else [("--params", step)])))
    return commands


def kubeflow_commands(spec: dict[str, Any]) -> dict[str, Command]:
    (inner,) = (each["dag"] for name, each in spec["components"].items() if name.startswith("comp-exit-handler"))
    commands = {}
    for name, task in inner["tasks"].items():
        component = spec["components"][task["componentRef"]["name"]]
        container = spec["deploymentSpec"]["executors"][component["executorLabel"]].get("container")
        if container is None:
            assert name == "importer"
            continue
        mura, step = container["command"]
        assert mura == "mura"
        told = []
        for flag, value in zip(container["args"][::2], container["args"][1::2], strict=True):
            if artifact := re.fullmatch(r"\{\{\$\.inputs\.artifacts\['(\w+)'\]\.path\}\}", value):
                told.append((flag, task["inputs"]["artifacts"][artifact[1]]["taskOutputArtifact"]["producerTask"]))
            elif parameter := re.fullmatch(r"\{\{\$\.inputs\.parameters\['(\w+)'\]\}\}", value):
                source = task["inputs"]["parameters"][parameter[1]]["componentInputParameter"]
                told.append((flag, source.removeprefix("pipelinechannel--")))
            else:
                assert flag in ("--out", "--executor-input")
        commands[name] = (step, sorted(told))
    return commands


def test_both_graphs_have_the_same_steps_edges_commands_and_parameters(spec: dict[str, Any]) -> None:
    assert kubeflow_commands(spec) == dvc_commands()


def test_what_dvc_always_runs_kubeflow_does_not_cache(spec: dict[str, Any]) -> None:
    (inner,) = (each["dag"] for name, each in spec["components"].items() if name.startswith("comp-exit-handler"))
    cached = {name: task["cachingOptions"].get("enableCache", False) for name, task in inner["tasks"].items()}
    always = {name for name, stage in STAGES.items() if stage.get("always_changed")}
    assert {name for name, enabled in cached.items() if not enabled} == always


def test_the_cache_knows_each_artifact_by_its_digest(spec: dict[str, Any]) -> None:
    """Kubeflow's key has the names of input artifacts and not what is in them."""
    (inner,) = (each["dag"] for name, each in spec["components"].items() if name.startswith("comp-exit-handler"))
    for name, task in inner["tasks"].items():
        if name in ("importer", "register", "promote"):
            continue
        parameters = task["inputs"]["parameters"]
        assert "code" in parameters
        for artifact, source in task["inputs"].get("artifacts", {}).items():
            maker = {"outputParameterKey": "digest", "producerTask": source["taskOutputArtifact"]["producerTask"]}
            assert parameters[f"{artifact}_digest"]["taskOutputParameter"] == maker
        if "archive" in parameters:
            assert parameters["archive_digest"]["componentInputParameter"] == "pipelinechannel--archive_digest"


def test_only_placeholders_that_every_launcher_fills_are_used(compiled: Compiled) -> None:
    assert "Concat" not in compiled.text
    assert "IfPresent" not in compiled.text
    known = r"\{\{\$(|\.(inputs|outputs)\.(artifacts|parameters)\['\w+'\](\.path)?|\.pipeline_job_uuid)\}\}"
    found = set(re.findall(r"\{\{.*?\}\}", json.dumps(list(yaml.safe_load_all(compiled.text)))))
    assert found
    assert [each for each in found if not re.fullmatch(known, each)] == []


def test_an_overlay_that_no_command_can_take_is_refused(tmp_path: Path) -> None:
    row = "train/XR_WRIST/patient{:05d}/study1_negative,0,1,a reader,{}\n"
    (tmp_path / "overlay.csv").write_text(
        "study,old,new,source,reason\n" + "".join(row.format(i, "x" * 1000) for i in range(100))
    )
    labels = DEMO.labels.model_copy(update={"overlay": str(tmp_path / "overlay.csv")})
    with pytest.raises(UsageError, match=r"overlay\.csv: 1\d\d,\d{3} bytes, more than"):
        compile_pipeline(DEMO.model_copy(update={"labels": labels}))
