"""The estimate of a run's size, against the nodes of a real run and the pipeline that it ran."""

import gzip
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from test_compiling import DEMO, STORED, code, with_candidates, with_ensembles, with_profile

from components.params.document import Params
from pipelines.graph.compiling import compile_pipeline
from pipelines.graph.package import Package
from pipelines.graph.run_size import MOST, RunSize, run_size

pytestmark = pytest.mark.long

# Revision 5a5ae41 with four candidates, on Kubeflow Pipelines 2.17.0, Argo 4.0.5.
RECORDED = Path(__file__).parents[1] / "recorded"
# Bytes of the workflow before the run.
SPEC = 105_000


@pytest.fixture(scope="module")
def nodes() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress((RECORDED / "workflow-nodes.json.gz").read_bytes()))
    return found


def step_of(node: dict[str, Any]) -> str:
    """The step that a node belongs to; empty if it is the run's or a group's."""
    names = [re.sub(r"(-driver)?(\(\d+\))?$", "", part) for part in node["name"].split(".")[1:]]
    own = [
        name for name in names if name not in ("root", "exit-handler-1", "onExit", "executor", "importer", "onExit(0)")
    ]
    return own[0] if own else ""


@pytest.fixture(scope="module")
def recorded(nodes: dict[str, Any]) -> Counter[str]:
    """Bytes by step, without repeated attempts."""
    found: Counter[str] = Counter()
    for key, node in nodes.items():
        if not re.search(r"\([1-9]\)$", node["displayName"]):
            found[step_of(node)] += len(json.dumps({key: node}, separators=(",", ":"))) - 1
    return found


def told_then(nodes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the steps told of their outputs then, by output."""
    found = {}
    for node in nodes.values():
        for each in node.get("outputs", {}).get("parameters", ()):
            if each["name"] == "pod-spec-patch" and each["value"]:
                command = json.loads(each["value"])["containers"][0]["command"]
                inputs = json.loads(command[command.index("--executor_input") + 1])["inputs"]
                for artifact in inputs.get("artifacts", {}).values():
                    metadata = artifact["artifacts"][0]["metadata"]
                    metadata.pop("store_session_info")
                    found[metadata.pop("display_name")] = metadata
    return found


@pytest.fixture(scope="module")
def estimated(nodes: dict[str, Any]) -> RunSize:
    package = Package.parse(gzip.decompress((RECORDED / "pipeline-5a5ae41.yaml.gz").read_bytes()))
    told = told_then(nodes)
    return run_size(package, told.__getitem__, digits=64)


def test_the_estimate_of_a_real_run_is_right_within_a_twentieth(
    estimated: RunSize, recorded: Counter[str], nodes: dict[str, Any]
) -> None:
    assert estimated.nodes == pytest.approx(sum(recorded.values()), rel=0.05)
    # The repeated attempts too, which nobody can foresee.
    assert estimated.nodes == pytest.approx(len(json.dumps(nodes, separators=(",", ":"))), rel=0.05)
    assert estimated.spec == pytest.approx(SPEC, rel=0.05)


def test_the_estimate_is_right_step_by_step(estimated: RunSize, recorded: Counter[str]) -> None:
    assert {step for step in recorded if step} == set(estimated.steps)
    for step, size in estimated.steps.items():
        assert size == pytest.approx(recorded[step], rel=0.05), step
    assert estimated.shared == pytest.approx(recorded[""], rel=0.1)


def size_of(candidates: int, ensemble: bool = False, **profile: Any) -> RunSize:
    """The estimate for so many candidates today."""
    made: Params = with_candidates(DEMO, **{f"candidate_{number}": {} for number in range(candidates)})
    if ensemble:
        made = with_ensembles(made, ensemble="all")
    params = with_profile(made, image="localhost/mura:cpu-0123456789abcdef", **profile)
    package = compile_pipeline(params, archive=STORED, archive_digest="0" * 32, archive_name="MURA-v1.1.zip", code=code)
    return run_size(package)


def test_a_run_of_five_candidates_fits_with_room_for_more() -> None:
    """At 5a5ae41 it would have taken 1.29 MB."""
    size = size_of(5)
    assert sum(size.steps.values()) < 710_000
    assert size.total < 880_000


def test_a_run_of_four_candidates_and_their_ensemble_fits_too() -> None:
    size, without = size_of(4, ensemble=True), size_of(4)
    assert set(size.steps) - set(without.steps) == {"ensemble", "evaluate-ensemble"}
    assert without.total + 90_000 < size.total < 862_000


def test_every_candidate_and_step_counts() -> None:
    four, five = size_of(4), size_of(5)
    assert set(five.steps) - set(four.steps) == {"train-candidate-4", "evaluate-candidate-4"}
    assert five.total - four.total > 90_000
    assert size_of(1).total < four.total < MOST


def test_shards_on_a_volume_take_less() -> None:
    assert size_of(4, shards="workspace").total < size_of(4).total
