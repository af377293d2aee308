"""How large a run becomes in Kubernetes, estimated from the compiled pipeline.

Argo keeps a workflow and the state of all its nodes in one object. From 1 MiB on it compresses the nodes, and Kubeflow
reads them no longer: the run goes on, and its last steps are never shown as done. Most of it is said many times over.
What Kubeflow's driver tells a step's pod, the patch, stands in six nodes of the step; what the step is, in two.

The nodes are made up here as Kubeflow Pipelines 2.17 and Argo 4.0 write them, in a run with the default arguments in
which each step runs once. Names have their own length, ids and addresses of the server the usual one. A further attempt
of a step adds as much as one node of it, about 7 kB.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from components.kubeflow.executor import DIGITS, passed_on
from pipelines.graph.package import Package

MOST = 900_000
"""Bytes of a run that should be started: the rest up to 1 MiB is for further attempts."""

Metadata = Callable[[str], Mapping[str, Any]]
"""What steps tell Kubeflow of an output that others read, by the output's name."""
Object = dict[str, Any]

_RUN, _NODE, _UUID, _TIME = "mura-00000", "mura-00000-0000000000", "0" * 36, "2026-01-01T00:00:00Z"
_PLACE = f"minio://mlpipeline/v2/artifacts/mura/{_UUID}"
_OUTPUTS, _FILES = "/tmp/outputs/", "/tmp/kfp/outputs/"  # noqa: S108 - as the driver names them
_LOGS = {"schemaTitle": "system.Artifact"}
# What the launcher notes of the store of an artifact that has no note.
_SESSION = {
    "Provider": "minio",
    "Params": {
        "accessKeyKey": "accesskey",
        "disableSSL": "true",
        "endpoint": "seaweedfs.kubeflow:9000",
        "fromEnv": "false",
        "maxRetries": "5",
        "region": "minio",
        "secretKeyKey": "secretkey",
        "secretName": "mlpipeline-minio-artifact",
    },
}
_IMPORTED = "artifact"
"""The output of every importer."""
_SERVERS = {
    "--pod_name": "$(KFP_POD_NAME)",
    "--pod_uid": "$(KFP_POD_UID)",
    "--ml_pipeline_server_address": "ml-pipeline.kubeflow.svc.cluster.local",
    "--ml_pipeline_server_port": "8887",
    "--mlmd_server_address": "metadata-grpc-service.kubeflow.svc.cluster.local",
    "--mlmd_server_port": "8080",
    "--publish_logs": "true",
}
_STATUS = '{"error":{},"pipelineJobResourceName":"mura-00000","pipelineTaskName":"exit-handler-1","state":"COMPLETE"}'
# Templates of Kubeflow's drivers, launcher and importer in the workflow, which are the same for all pipelines.
_TEMPLATES = 11_000
_RETRY = {
    "retry-max-count": "3",
    "retry-backoff-duration": "30",
    "retry-backoff-factor": "2",
    "retry-backoff-max-duration": "10800",
}
# Parameters that have a default, which Argo repeats beside the value.
_DEFAULTS = {
    **dict.fromkeys(_RETRY, "0"),
    "cached-decision": "false",
    "iteration-index": "-1",
    "kubernetes-config": "",
    "runtime-config": "",
    "task": "",
    "task-name": "",
    "parent-dag-id": "0",
    "driver-type": "DAG",
}
_GROUP_MADE = {"execution-id": "1", "iteration-count": "0", "condition": "nil"}
# What the workflow's template has for each step besides the task: parameters that are passed on.
_PASSED_ON = "x" * 1100 + "NAME" * 7


class RunSize(NamedTuple):
    """Bytes of a run at its end."""

    spec: int
    """The workflow before it starts."""
    shared: int
    """Nodes of the run and its groups, and of what is no step: the importer."""
    steps: Mapping[str, int]
    """Nodes of each step, by its name in the graph."""

    @property
    def nodes(self) -> int:
        """All nodes."""
        return self.shared + sum(self.steps.values())

    @property
    def total(self) -> int:
        """The workflow with its nodes, which Argo compares with 1 MiB."""
        return self.spec + self.nodes


def told_today(output: str) -> Mapping[str, Any]:
    """What the steps of this version tell of an output."""
    return passed_on(f"{_PLACE}/{output}")


def run_size(package: Package, metadata: Metadata = told_today, digits: int = DIGITS) -> RunSize:
    """Estimate the bytes of a run.

    Args:
        package: the compiled pipeline.
        metadata: what steps tell of their outputs.
        digits: of the digests that they tell.
    """
    run = _Run(package, metadata, digits)
    root = package.spec["root"]
    shared = _bytes(_twice(_RUN, {}, {}, dag=True))
    shared += _bytes(_twice("root-driver", {"component": _text(root), "runtime-config": run.arguments}, _GROUP_MADE))
    shared += _bytes(_twice("root", {"parent-dag-id": "1"}, {}, dag=True))
    steps = {}
    for group, name, task in run.tasks(root, f"{_RUN}(0).root(0)"):
        component = run.component(task)
        if "dag" in component:
            inputs = {"component": _text(component), "runtime-config": "", "task": _text(task), "task-name": name}
            shared += _bytes(_twice(f"{group}.{name}-driver", inputs | _DEFAULTS, _GROUP_MADE))
            shared += _bytes(_twice(f"{group}.{name}", {"parent-dag-id": "2"}, {}, dag=True))
        elif run.container(component) is None:
            inputs = {"task": _text(task), "component": _text(component), "importer": _text(run.executor(component))}
            shared += _bytes(_twice(f"{group}.{name}", inputs | {"parent-dag-id": "2"}, {}))
        else:
            steps[name] = _bytes(run.nodes(group, name, task))
    return RunSize(run.spec(), shared, steps)


class _Run:
    """A compiled pipeline, as Kubeflow's drivers write it down."""

    def __init__(self, package: Package, metadata: Metadata, digits: int) -> None:
        self._spec, self._metadata, self._digits = package.spec, metadata, digits
        platform = package.platform.get("platforms", {}).get("kubernetes", {})
        self._pods = platform.get("deploymentSpec", {}).get("executors", {})
        self._values = {name: each.default for name, each in package.parameters.items()}
        self.arguments = _text({"parameterValues": self._values})

    def tasks(self, of: Object, group: str) -> Iterator[tuple[str, str, Object]]:
        """Tasks, those of groups after the group: the name of the group's node, the task's name, the task."""
        for name, task in of["dag"]["tasks"].items():
            # What runs at the end of a group runs below a node of its own.
            ends = task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"
            yield (f"{group}.{task['dependentTasks'][0]}.onExit(0)" if ends else group), name, task
            if "dag" in (inner := self.component(task)):
                yield from self.tasks(inner, f"{group}.{name}(0)")

    def component(self, task: Object) -> Object:
        found: Object = self._spec["components"][task["componentRef"]["name"]]
        return found

    def executor(self, component: Object) -> Object:
        found: Object = self._spec["deploymentSpec"]["executors"][component["executorLabel"]]
        return found

    def container(self, component: Object) -> Object | None:
        return self.executor(component).get("container")

    def pod(self, component: Object) -> Object:
        found: Object = self._pods.get(component["executorLabel"], {})
        return found

    def nodes(self, group: str, name: str, task: Object) -> list[Object]:
        """The six nodes of a step."""
        component = self.component(task)
        patch = _text(self.patch(name, task, component))
        told = {"component": _text(component), "task": _text(task), "container": _text(self.container(component))}
        told |= {"task-name": name, "parent-dag-id": "2", "iteration-index": "-1"}
        told["kubernetes-config"] = _text(self.pod(component))
        made = {"pod-spec-patch": patch, "cached-decision": "false", "condition": "nil"}
        retry = _RETRY if "retryPolicy" in task else {}
        return [
            *_twice(f"{group}.{name}-driver", told, made),
            *_twice(f"{group}.{name}", {"pod-spec-patch": patch, "cached-decision": "false"} | retry, {}, dag=True),
            *_twice(f"{group}.{name}(0).executor", {"pod-spec-patch": patch} | retry, {}),
        ]

    def patch(self, name: str, task: Object, component: Object) -> Object:
        """What the driver adds to a step's pod."""
        container, pod = self.container(component) or {}, self.pod(component)
        definitions = component.get("outputDefinitions", {})
        artifacts = {"executor-logs": {"artifactType": _LOGS}} | definitions.get("artifacts", {})
        described = component | {"outputDefinitions": definitions | {"artifacts": artifacts}}
        parameters = {key: self._value(each) for key, each in task.get("inputs", {}).get("parameters", {}).items()}
        told = {"inputs": self._inputs(task, parameters), "outputs": _outputs(name, artifacts, definitions)}
        command = ["/kfp-launcher/launch", "--pipeline_name", "mura", "--run_id", _UUID, "--execution_id", "00"]
        command += ["--executor_input", _spaced(told), "--component_spec", _spaced(described)]
        command += [word for pair in _SERVERS.items() for word in pair] + ["--publish_logs", "true", "--"]
        args = [*container["command"], *(_filled(word, parameters) for word in container.get("args", ()))]
        resources = container.get("resources", {})
        limits, requests = (
            {kind.lower(): resources.get(f"resource{kind}{which}", "") for kind in ("Cpu", "Memory")}
            for which in ("Limit", "Request")
        )
        env, mounts, volumes = _given(pod)
        main = {
            "name": "main",
            "image": container["image"],
            "command": command,
            "args": args,
            "env": env + container.get("env", []),
            "resources": {"limits": limits, "requests": requests},
            "volumeMounts": mounts,
            "imagePullPolicy": pod.get("imagePullPolicy", ""),
            "securityContext": {"capabilities": {"drop": ["ALL"]}, **pod.get("securityContext", {})},
        }
        rest = {key: pod[key] for key in ("nodeSelector", "tolerations", "imagePullSecret") if key in pod}
        return {"volumes": volumes, "containers": [main], "activeDeadlineSeconds": 3600} | rest

    def spec(self) -> int:
        """Bytes of the workflow before it starts: arguments, and templates that pass them on."""
        root = self._spec["root"]
        once: dict[str, Object] = {"root": root}
        each: list[str] = []
        for _, name, task in self.tasks(root, ""):
            component = self.component(task)
            container = None if "dag" in component else self.container(component)
            if container is None:
                once[name] = component
                each.append(_text(task))
            else:
                # Steps with the same container share an entry.
                once[_text(container)] = {"component": component, "container": container}
                each += [_text(task), _text(self.pod(component)), _PASSED_ON.replace("NAME", name)]
        texts = [*(_text(one) for one in once.values()), self.arguments, *each]
        # Each is a parameter, or a part of a template.
        return _TEMPLATES + sum(len(json.dumps(text)) + 100 for text in texts)

    def _inputs(self, task: Object, parameters: Mapping[str, Any]) -> Object:
        artifacts = {}
        for key, source in task.get("inputs", {}).get("artifacts", {}).items():
            made = source["taskOutputArtifact"]
            output = made["outputArtifactKey"]
            # Nobody can tell an importer what to note.
            noted = {} if output == _IMPORTED else self._metadata(output)
            known = {"store_session_info": _text(_SESSION), **noted, "display_name": output}
            uri = f"{_PLACE}/{made['producerTask']}/{_UUID}/{output}"
            one = {"name": "00", "type": {"instanceSchema": ""}, "uri": uri, "metadata": known}
            artifacts[key] = {"artifacts": [one]}
        return ({"artifacts": artifacts} if artifacts else {}) | {"parameterValues": parameters}

    def _value(self, source: Object) -> Any:
        if "componentInputParameter" in source:
            return self._values[source["componentInputParameter"].removeprefix("pipelinechannel--")]
        if "taskOutputParameter" in source:
            return "0" * self._digits
        if "runtimeValue" in source:
            return re.sub(r"\{\{\$\.\w+\}\}", _UUID, str(source["runtimeValue"]["constant"]))
        return _STATUS


def _outputs(task: str, artifacts: Object, definitions: Object) -> Object:
    place = f"{_PLACE}/{task}/{_UUID}"
    listed = {
        key: {"artifacts": [{"name": key, "type": each["artifactType"], "uri": f"{place}/{key}"}]}
        for key, each in artifacts.items()
    }
    files = {key: {"outputFile": f"{_FILES}{key}"} for key in definitions.get("parameters", ())}
    found = {"artifacts": listed, "outputFile": f"/minio/{place.partition('://')[2]}/output_metadata.json"}
    return ({"parameters": files} if files else {}) | found


def _given(pod: Object) -> tuple[list[Object], list[Object], list[Object]]:
    """The pod's variables, mounts and volumes."""
    env: list[Object] = []
    mounts: list[Object] = []
    volumes: list[Object] = []
    for kind, naming in (("secret", "secretName"), ("configMap", "name")):
        for source in pod.get(f"{kind}AsEnv", ()):
            for pair in source["keyToEnv"]:
                key = {"name": source[f"{kind}Name"], "key": pair[f"{kind}Key"], "optional": True}
                env.append({"name": pair["envVar"], "valueFrom": {f"{kind}KeyRef": key}})
        for source in pod.get(f"{kind}AsVolume", ()):
            name = source[f"{kind}Name"]
            mounts.append({"name": name, "mountPath": source["mountPath"]})
            volumes.append({"name": name, kind: {naming: name, "optional": True}})
    for source in pod.get("fieldPathAsEnv", ()):
        field = {"fieldRef": {"fieldPath": source["fieldPath"]}}
        env.append({"name": source["name"], "valueFrom": field})
    return env, mounts, volumes


def _twice(name: str, inputs: Mapping[str, str], outputs: Mapping[str, str], dag: bool = False) -> list[Object]:
    """The two nodes of everything that Argo may try again: the tries, and the first try."""
    last = name.rpartition(".")[2]
    node: Object = {
        "id": _NODE,
        "name": name,
        "displayName": last,
        "type": "Retry",
        "templateName": "x" * 25,
        "templateScope": f"local/{_RUN}",
        "phase": "Succeeded",
        "boundaryID": _NODE,
        "startedAt": _TIME,
        "finishedAt": _TIME,
        "progress": "1/1",
        "resourcesDuration": {"cpu": 100, "memory": 5000},
        "children": [_NODE],
        "inputs": {"parameters": [_parameter(key, value, dag) for key, value in inputs.items()]},
    }
    if not dag:
        log = f"private-artifacts/kubeflow/{_RUN}/2026/01/01/{_NODE}-{'x' * 27}/main.log"
        made = [
            {"name": key, "value": value, "valueFrom": {"path": f"{_OUTPUTS}{key}"}} for key, value in outputs.items()
        ]
        artifacts = [{"name": "main-logs", "s3": {"key": log}}]
        node["outputs"] = {"parameters": made, "artifacts": artifacts, "exitCode": "0"}
    first = node | {"name": f"{name}(0)", "displayName": f"{last}(0)", "nodeFlag": {"retried": True}}
    first |= {"outboundNodes": [_NODE]} if dag else {"hostNodeName": "node1", "taskResultSynced": True}
    return [node, first]


def _parameter(key: str, value: str, dag: bool) -> Object:
    """A parameter of a node, with its default where its template has one."""
    has = key in _DEFAULTS and (dag or value == _DEFAULTS[key])
    return {"name": key, "value": value} | ({"default": _DEFAULTS[key]} if has else {})


def _filled(word: str, parameters: Mapping[str, Any]) -> str:
    """An argument, with the value of the parameter that it stands for. The launcher fills in paths later."""
    found = re.fullmatch(r"\{\{\$\.inputs\.parameters\['(\w+)'\]\}\}", word)
    value = parameters[found[1]] if found else word
    return value if isinstance(value, str) else _text(value)


def _bytes(nodes: list[Object]) -> int:
    return sum(len(_text(node)) + len(f'"{_NODE}":,') for node in nodes)


def _text(document: Any) -> str:
    return json.dumps(document, separators=(",", ":"))


def _spaced(document: Any) -> str:
    """JSON as protobuf for Go writes it."""
    return json.dumps(document, separators=(", ", ":"))
