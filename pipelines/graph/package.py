"""A compiled pipeline: its name, its parameters, its steps, and what it needs of a cluster."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from components.base import documents
from components.base.errors import UsageError
from components.params.kubeflow import EnvironmentSource

# By the names of kfp's compiler.
_KINDS: dict[str, tuple[type, ...]] = {
    "STRING": (str,),
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}
_WORDS = {
    "NUMBER_INTEGER": "a whole number",
    "NUMBER_DOUBLE": "a number",
    "BOOLEAN": "true or false",
    "LIST": "a list, as JSON",
    "STRUCT": "an object, as JSON",
}


class Step(NamedTuple):
    """One container of the pipeline."""

    key: str
    """Its name in the graph, and of its node in a run."""
    name: str
    """Its name for people."""
    section: str = ""
    """Its section in `kubeflow.steps` of params.yaml: `shard`, or `train.vgg16`, which comes before `train`."""
    memory: str = ""
    """Its limit of memory, such as 3Gi; empty if it has none."""
    sources: tuple["Need", ...] = ()
    """Secrets and config maps of its pod."""


class Parameter(NamedTuple):
    """An argument that a run can have."""

    kind: str
    """STRING, NUMBER_INTEGER, NUMBER_DOUBLE, BOOLEAN, LIST or STRUCT."""
    required: bool
    default: Any


class Need(NamedTuple):
    """A secret or a config map of pods."""

    kind: str
    """`secret`, `config map` or `pull secret`."""
    name: str
    keys: tuple[str, ...]
    optional: bool


class Room(NamedTuple):
    """What must be free on a node for a step to start."""

    step: str
    """Its name in the graph, `train-vgg16`."""
    cpu: str
    memory: str
    """Quantities of Kubernetes, such as 500m and 3Gi."""


@dataclass(frozen=True)
class Needs:
    """What the pods of a run need of a cluster."""

    images: tuple[str, ...] = ()
    sources: tuple[Need, ...] = ()
    gpus: dict[str, int] = field(default_factory=dict)
    """The number that all steps together ask for, by resource name."""
    rooms: tuple[Room, ...] = ()
    """One for each step that asks for cores and memory."""

    def with_keys(self, sources: Iterable[EnvironmentSource]) -> "Needs":
        """The same, with the keys that the choices name: a volume is of all keys, and names none."""
        keys = {("secret" if each.secret else "config map", each.name): tuple(sorted(each.keys)) for each in sources}
        named = (need._replace(keys=need.keys or keys.get((need.kind, need.name), ())) for need in self.sources)
        return replace(self, sources=tuple(named))


@dataclass(frozen=True)
class Package:
    """A compiled pipeline: two YAML documents, the specification of the pipeline and that of the platform."""

    text: bytes
    spec: dict[str, Any]
    platform: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> "Package":
        """Read a compiled pipeline.

        Raises:
            UsageError: there is no such file, or it is no compiled pipeline.
        """
        try:
            return cls.parse(documents.content(path))
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"{path}: {why}. `mura pipeline compile` writes a compiled pipeline.") from error

    @classmethod
    def parse(cls, text: bytes) -> "Package":
        """Parse a compiled pipeline.

        Raises:
            ValueError: it is none.
        """
        try:
            found = documents.yaml_all(text)
        except yaml.YAMLError as error:
            raise ValueError(f"not readable as YAML ({' '.join(str(error).split())})") from error
        if not (found and isinstance(found[0], dict) and {"pipelineInfo", "root"} <= found[0].keys()):
            raise ValueError("expected a compiled pipeline with `pipelineInfo` and `root`")
        return cls(text, found[0], found[1] if len(found) > 1 else {})

    @property
    def name(self) -> str:
        """The pipeline's name."""
        return str(self.spec["pipelineInfo"]["name"])

    @property
    def version(self) -> str:
        """The digest of the content, as a name."""
        return f"sha256-{hashlib.sha256(self.text).hexdigest()[:16]}"

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The arguments that a run can have, by name."""
        found = self.spec["root"].get("inputDefinitions", {}).get("parameters", {})
        return {
            name: Parameter(
                each["parameterType"],
                not each.get("isOptional", False) and "defaultValue" not in each,
                _integral(each["parameterType"], each.get("defaultValue")),
            )
            for name, each in found.items()
        }

    @property
    def steps(self) -> list[Step]:
        """The containers in an order in which they can run, those in groups too."""
        return list(_steps(self.spec, self.spec["root"], self._pods))

    @property
    def seconds(self) -> float | None:
        """How long a run may take; None if there is no limit."""
        config = self.platform.get("platforms", {}).get("kubernetes", {}).get("pipelineConfig", {})
        return float(config.get("activeDeadlineSeconds") or 0) or None

    @property
    def needs(self) -> Needs:
        """What its pods need of a cluster."""
        executors = self.spec.get("deploymentSpec", {}).get("executors", {})
        containers = [each["container"] for each in executors.values() if "container" in each]
        gpus: dict[str, int] = {}
        for container in containers:
            accelerator = container.get("resources", {}).get("accelerator", {})
            count = int(accelerator.get("resourceCount") or accelerator.get("count") or 0)
            if count:
                kind = accelerator.get("resourceType") or accelerator.get("type")
                gpus[kind] = gpus.get(kind, 0) + count
        sources = {need for pod in self._pods.values() for need in _sources(pod)}
        rooms = (_room(name, each["container"]) for name, each in executors.items() if "container" in each)
        return Needs(
            tuple(sorted({each["image"] for each in containers})),
            tuple(sorted(sources)),
            gpus,
            tuple(sorted(room for room in rooms if room)),
        )

    @property
    def _pods(self) -> dict[str, Any]:
        """What Kubernetes is told of the pods, by executor."""
        platform = self.platform.get("platforms", {}).get("kubernetes", {})
        found: dict[str, Any] = platform.get("deploymentSpec", {}).get("executors", {})
        return found

    def without_caching(self) -> "Package":
        """The same pipeline without caching: every step runs."""
        spec = json.loads(json.dumps(self.spec))
        for part in [spec["root"], *spec.get("components", {}).values()]:
            for task in part.get("dag", {}).get("tasks", {}).values():
                task.pop("cachingOptions", None)
        documents = [spec, *([self.platform] if self.platform else [])]
        return Package(yaml.safe_dump_all(documents, sort_keys=True).encode(), spec, self.platform)

    def manifests(self, namespace: str | None = None) -> str:
        """The pipeline and this version of it as Kubernetes' resources, for servers that keep pipelines so.

        Args:
            namespace: of the resources; None for that of whoever applies them.
        """
        info = self.spec["pipelineInfo"]
        shown = info.get("displayName", self.name)
        where = {"namespace": namespace} if namespace else {}

        def resource(kind: str, name: str, content: dict[str, Any]) -> dict[str, Any]:
            api = "pipelines.kubeflow.org/v2beta1"
            return {"apiVersion": api, "kind": kind, "metadata": {"name": name, **where}, "spec": content}

        version = {
            "pipelineName": self.name,
            "displayName": self.version,
            "description": info.get("description", ""),
            "pipelineSpec": self.spec,
            **({"platformSpec": self.platform} if self.platform else {}),
        }
        documents = [
            resource("Pipeline", self.name, {"displayName": shown}),
            resource("PipelineVersion", self.version, version),
        ]
        return yaml.safe_dump_all(documents, sort_keys=True)

    def argument(self, name: str, text: str) -> Any:
        """Parse the value of a parameter: text as it is, anything else as JSON.

        Raises:
            UsageError: the pipeline has no such parameter, or it is of another kind.
        """
        parameter = self.parameters.get(name)
        if parameter is None:
            raise UsageError(f"--set {name}: {self.name} has no such parameter; it has {', '.join(self.parameters)}.")
        if parameter.kind == "STRING":
            return text
        try:
            value = documents.json_of(text)
        except ValueError:
            value = None
        # In Python, True is an int.
        right = isinstance(value, _KINDS.get(parameter.kind, (object,)))
        if not right or (isinstance(value, bool) and parameter.kind != "BOOLEAN"):
            raise UsageError(f"--set {name}: expected {_WORDS.get(parameter.kind, 'JSON')}, found {text:.60}.")
        return value


def _integral(kind: str, value: Any) -> Any:
    """In a compiled pipeline every number is a float, as in protobuf."""
    return int(value) if kind == "NUMBER_INTEGER" and value is not None else value


def _steps(spec: dict[str, Any], component: dict[str, Any], pods: dict[str, Any]) -> Iterator[Step]:
    tasks = component["dag"]["tasks"]
    left = sorted(tasks)
    while left:
        # Tasks that wait for none of `left`. kfp compiles no circle, so there is one; `or` ends the loop in any case.
        ready = [key for key in left if not set(tasks[key].get("dependentTasks", ())) & set(left)] or left
        for key in ready:
            inner = spec.get("components", {}).get(tasks[key]["componentRef"]["name"], {})
            if "dag" in inner:
                yield from _steps(spec, inner, pods)
            else:
                sources = tuple(sorted(_sources(pods.get(inner.get("executorLabel"), {}))))
                yield _step(spec, key, tasks[key], inner)._replace(sources=sources)
        left = [key for key in left if key not in ready]


def _step(spec: dict[str, Any], key: str, task: dict[str, Any], component: dict[str, Any]) -> Step:
    executors = spec.get("deploymentSpec", {}).get("executors", {})
    container = executors.get(component.get("executorLabel"), {}).get("container", {})
    command = container.get("command", ())
    section = command[1] if len(command) > 1 else key.partition("-")[0]
    section = ".".join([section, *_candidate(spec, key, section)])
    memory = container.get("resources", {}).get("resourceMemoryLimit", "")
    return Step(key, task.get("taskInfo", {}).get("name", key), section, memory)


def _candidate(spec: dict[str, Any], key: str, section: str) -> list[str]:
    """The candidate that a task is about, as params.yaml calls it; nothing if it is about none or that is not known."""
    parameters = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    # Each network and each ensemble has a parameter with its choices.
    made = (name.partition("_") for name in parameters if name.startswith(("train_", "ensemble_")))
    names = [name for step, _, name in made if section in (step, "evaluate")]
    # As `Tasks.add` and kfp name the task.
    of = [name for name in names if key == (section if name == section else f"{section}-{name.replace('_', '-')}")]
    return of if len(of) == 1 else []


def _room(executor: str, container: dict[str, Any]) -> Room | None:
    resources = container.get("resources", {})
    cpu, memory = resources.get("resourceCpuRequest"), resources.get("resourceMemoryRequest")
    return Room(executor.removeprefix("exec-"), str(cpu), str(memory)) if cpu and memory else None


def _sources(pod: dict[str, Any]) -> Iterator[Need]:
    for field_name, kind, place in (
        ("secretAsEnv", "secret", "secret"),
        ("secretAsVolume", "secret", "secret"),
        ("configMapAsEnv", "config map", "configMap"),
        ("configMapAsVolume", "config map", "configMap"),
    ):
        for each in pod.get(field_name, ()):
            keys = tuple(sorted(pair[f"{place}Key"] for pair in each.get("keyToEnv", ())))
            yield Need(kind, _name(each, place), keys, bool(each.get("optional", False)))
    for each in pod.get("imagePullSecret", ()):
        yield Need("pull secret", _name(each, "secret"), (), False)


def _name(source: dict[str, Any], place: str) -> str:
    found = source.get(f"{place}Name") or source.get(f"{place}NameParameter", {}).get("runtimeValue", {}).get(
        "constant"
    )
    return str(found)
