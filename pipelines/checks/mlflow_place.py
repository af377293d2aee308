"""Whether the pods of a run are told where MLflow is. Without that, a step that needs it refuses to start."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from components.base.errors import UsageError
from components.base.variables import TRACKING_URI
from components.base.words import in_words
from components.params.kubeflow import EnvironmentSource
from pipelines.checks.check_result import CheckResult, missing, unknown
from pipelines.graph.package import Need, Package, Step

if TYPE_CHECKING:
    from pipelines.checks.namespace import Namespace

OFF = "off"
# The config map of infra/ and of params.yaml as it is committed.
PLACES = "mura-places"
# Steps that stop without MLflow, and those among them that need its registry.
_NEED_IT, _NEED_REGISTRY = ("train", "register", "promote"), ("register", "promote")


def look(there: "Namespace", package: Package, choices: Sequence[EnvironmentSource] = ()) -> CheckResult | None:
    """Whether the secrets and config maps of a pipeline say where MLflow is, to each step that needs it.

    Args:
        there: the namespace of the runs.
        package: the pipeline.
        choices: the secrets and config maps of params.yaml, to say which of them should have the address.

    Returns:
        None if they say an address; its result otherwise.
    """
    sources = _Sources(there)
    unseen, untold = False, []
    for step in package.steps:
        name = step.key.partition("-")[0]
        if name not in _NEED_IT:
            continue
        need, value = sources.told(step)
        if value is None:
            unseen = True
        elif need is None:
            untold.append((name, step))
        elif value.lower() == OFF and name in _NEED_REGISTRY:
            return missing(
                "MLflow",
                f"{TRACKING_URI} is {OFF} in {need.name}, and {' and '.join(_NEED_REGISTRY)} need MLflow's registry: "
                f"set it to the server's address. {sources.edit(need.kind, need.name)}",
            )
    if not untold and not unseen:
        return None
    if not untold or not there.exists():
        return unknown("MLflow", "whether pods are told where it is cannot be seen from here")
    names = list(dict.fromkeys(name for name, _ in untold))
    asked = sorted({need for _, step in untold for need in _asked(step)}, key=_config_maps_first)
    every = len(untold) == sum(step.key.partition("-")[0] in _NEED_IT for step in package.steps)
    return missing(
        "MLflow",
        f"pods{'' if every else f' of {in_words(names)}'} are not told where it is, and would not start: "
        f"{TRACKING_URI} is in none of {', '.join(need.name for need in asked) or 'the config maps'} in {there.name}. "
        f"{_repair(names, choices, sources)}",
    )


def demand(namespace: str, package: Package, choices: Sequence[EnvironmentSource] = ()) -> None:
    """Refuse a pipeline whose pods are seen not to be told where MLflow is.

    Nothing is checked without a kubeconfig, or outside the cluster that it names.

    Args:
        namespace: of the runs.
        package: the pipeline.
        choices: as `look`.

    Raises:
        UsageError: they are not.
    """
    if not _may_ask():
        return
    # Imports kubernetes, which is slow.
    from pipelines.checks.namespace import Namespace

    try:
        there = Namespace(namespace, None)
    except ValueError:
        return
    found = look(there, package, choices)
    if found is not None and found.mark == "no":
        raise UsageError(
            f"MLflow: {found.found} Kubeflow's own MLflow plugin, if there is one, overrules what stands there. "
            "--no-check submits without looking, where the kubeconfig is for another cluster."
        )


class _Sources:
    """What the secrets and config maps of a namespace hold, each asked for once."""

    def __init__(self, there: "Namespace") -> None:
        self._there = there
        self._seen: dict[tuple[str, str], dict[str, str] | None] = {}

    def told(self, step: Step) -> tuple[Need | None, str | None]:
        """Where a step is told the address, and what is said there.

        None and an empty text if it is not told; None and None if that cannot be seen.
        """
        unseen = False
        for need in _asked(step):
            at = (need.kind, need.name)
            if at not in self._seen:
                self._seen[at] = self._there.content(*at)
            content = self._seen[at]
            unseen = unseen or content is None
            # A source with keys gives these only; one that is mounted names none, and gives all.
            given = content and (not need.keys or TRACKING_URI in need.keys)
            if content and given and (value := content.get(TRACKING_URI, "").strip()):
                return need, value
        return None, None if unseen else ""

    def edit(self, kind: str, name: str) -> str:
        """The command that puts something into a secret or a config map."""
        before = f"kubectl -n {self._there.name}"
        if self._seen.get((kind, name)):
            return f"{before} edit {kind.replace(' ', '')} {name}"
        what = "configmap" if kind == "config map" else "secret generic"
        return f"{before} create {what} {name} --from-literal={TRACKING_URI}=http://..."


def _asked(step: Step) -> list[Need]:
    """The sources of a step. Secrets last: they are not looked into where a config map says it."""
    return sorted((need for need in step.sources if need.kind in ("config map", "secret")), key=_config_maps_first)


def _config_maps_first(need: Need) -> tuple[str, str]:
    return need.kind, need.name


def _repair(steps: Sequence[str], choices: Sequence[EnvironmentSource], sources: _Sources) -> str:
    """What to do, so that these steps are told the address."""
    having = [each for each in choices if TRACKING_URI in each.keys]
    if not having:
        name = "Name a config map with this key in `kubeflow.environment` of params.yaml. " if choices else ""
        return f"{name}{sources.edit('config map', PLACES)}"
    said = [
        sources.edit("secret" if each.secret else "config map", each.name)
        for each in having
        if any(each.is_for(step) for step in steps)
    ]
    if lacking := [step for step in steps if not any(each.is_for(step) for each in having)]:
        said.append(f"Add {in_words(lacking)} to `steps` of {having[0].name} in `kubeflow.environment` of params.yaml.")
    return ". ".join(said)


def _may_ask() -> bool:
    files = os.environ.get("KUBECONFIG", "").split(os.pathsep) if os.environ.get("KUBECONFIG") else ["~/.kube/config"]
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) or any(Path(each).expanduser().is_file() for each in files)
