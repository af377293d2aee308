"""`mura pipeline doctor`: what a run on the cluster needs, and what is missing."""

import os
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

import click
import requests

from components.base import answers
from components.base.errors import MuraError, ServiceUnreachable
from components.base.terminal import tell
from components.base.urls import without_credentials
from components.base.variables import TRACKING_URI
from components.params.document import Params, read_params
from pipelines.checks import image_registry, mlflow_place, retries
from pipelines.checks.check_result import CheckResult, missing, unknown
from pipelines.checks.tracked_archive import Located, locate, present
from pipelines.client.access import Access
from pipelines.client.cluster import OLDEST_SERVER, Kubeflow, Server
from pipelines.commands.options import PARAMS, cluster
from pipelines.graph.compiling import compile_pipeline
from pipelines.graph.package import Package
from pipelines.graph.run_size import MOST, run_size

_MLFLOW = TRACKING_URI
# The service account of pods by default, by whether the server has a namespace for each user.
_ACCOUNTS = {False: "pipeline-runner", True: "default-editor"}
_SECONDS = (5, 10)
# Until the last byte of an answer, seconds.
_LONGEST = 30


@click.command("doctor")
@PARAMS
@click.option("--archive", metavar="PATH|URI", help="The archive. [default: `archive` of --params]")
@click.option("--kube-context", metavar="NAME", help="Of the kubeconfig. [default: the current one]")
@cluster
def command(access: Access, params: Path, archive: str | None, kube_context: str | None) -> None:
    """Check what a run on the cluster needs, and say what is missing.

    A line for each check: `ok`; `no`, a run would fail, and what to do; `--`, not checked, or a run can do without.
    Kubeflow Pipelines is checked for its version and the namespace, S3 for the archive, the registry for the images,
    MLflow for an answer. With a kubeconfig, Kubernetes is checked for the service account, secrets, config maps, quota
    and nodes. Nothing is changed, and no secret's value is shown.

    \b
    Exit codes: 0 nothing is missing; 2 wrong usage; 5 at least one `no`.
    """  # noqa: D301 - click wants the backspace itself
    results = []
    for result in examine(access, read_params(params), archive, kube_context):
        tell(str(result))
        results.append(result)
    if failed := sum(each.mark == "no" for each in results):
        raise ServiceUnreachable(
            f"doctor: {failed} of {len(results)} checks failed; the lines with `no` say what to do."
        )


def examine(access: Access, params: Params, archive: str | None, context: str | None) -> Iterator[CheckResult]:
    """Check one thing after the other.

    Args:
        access: the server and our login.
        params: the choices.
        archive: the archive; None for that of the choices.
        context: of the kubeconfig; None for the current one.
    """
    found, located = _archive(archive or params.archive)
    package, compiled = _package(params, located)
    yield compiled
    if package is not None:
        yield _size(package)
    kubeflow = Kubeflow(access)
    multi_user = False
    try:
        server = kubeflow.server
    except MuraError as error:
        yield missing("API", str(error))
        yield unknown("namespace", "not checked: the API does not answer")
    else:
        multi_user = server.multi_user
        yield _version(server)
        yield _access(kubeflow)
    yield found
    if package is not None:
        yield from _images(package)
    account = params.kubeflow.service_account or _ACCOUNTS[multi_user]
    yield from _cluster(access.namespace or "kubeflow", context, account, package, params)


def _package(params: Params, located: Located | None) -> tuple[Package | None, CheckResult]:
    # An archive that is not found is reported by itself.
    uri, digest = (located.uri, located.digest) if located else ("s3://bucket/archive.zip", "")
    try:
        package = compile_pipeline(params, archive=uri, archive_digest=digest)
    except MuraError as error:
        return None, missing("pipeline", str(error))
    size = f"{len(package.text) / 1000:.0f} kB"
    return package, CheckResult(
        "pipeline", f"{len(package.steps)} steps, {size}, compiled by kfp {metadata.version('kfp')}"
    )


def _size(package: Package) -> CheckResult:
    """Whether the state of the run stays below what Argo keeps in one piece."""
    size = run_size(package).total
    found = f"about {size / 1000:.0f} kB at its end, of at most {MOST / 1000:.0f} kB"
    if size > MOST:
        fewer = "Take candidates out of `train.candidates`, or ensembles out of `ensembles`."
        return missing("run", f"{found}: Kubeflow would not see its last steps. {fewer}")
    return CheckResult("run", found)


def _version(server: Server) -> CheckResult:
    oldest = ".".join(map(str, OLDEST_SERVER))
    users = "a namespace for each user" if server.multi_user else "one namespace for all"
    if server.too_old:
        return missing("API", f"version {server.version}: {oldest} or newer is needed.")
    if server.numbers is None:
        return unknown("API", f"version {server.version}, {oldest} or newer is needed; {users}")
    return CheckResult("API", f"version {server.version}, {users}")


def _access(kubeflow: Kubeflow) -> CheckResult:
    """Whether the server lets us list experiments and runs."""
    services = kubeflow.client
    try:
        one = {"page_size": 1, "namespace": kubeflow.namespace}
        list_experiments = services.experiments.experiment_service_list_experiments
        experiments = kubeflow.call("listing experiments", list_experiments, **one)
        runs = kubeflow.call("listing runs", services.runs.run_service_list_runs, **one)
    except MuraError as error:
        return missing("access", str(error))
    where = f"in {kubeflow.namespace} " if kubeflow.namespace else ""
    kind = kubeflow.access.authentication
    login = "without a login" if kind == "none" else f"by {kind}"
    found = f"{experiments.total_size or 0} experiments and {runs.total_size or 0} runs {where}seen {login}"
    return CheckResult("access", found)


def _archive(place: str) -> tuple[CheckResult, Located | None]:
    try:
        located = locate(place)
    except MuraError as error:
        return missing("archive", str(error)), None
    try:
        located = present(located)
    except ServiceUnreachable as error:
        return unknown("archive", f"not checked: {error}"), located
    except MuraError as error:
        return missing("archive", str(error)), located
    return CheckResult("archive", f"{located.uri}, {located.size:,} bytes"), located


def _images(package: Package) -> Iterator[CheckResult]:
    for image in package.needs.images:
        looked = image_registry.look(image)
        if looked.there is False:
            yield missing("image", f"{looked.said}. Build and push it: `make image`, `podman push`.")
        else:
            yield CheckResult("image", looked.said, "ok" if looked.there else "--")


def _cluster(
    namespace: str, context: str | None, account: str, package: Package | None, params: Params
) -> Iterator[CheckResult]:
    """What Kubernetes says; then MLflow at the address that pods have."""
    # Imports kubernetes, which is slow.
    from pipelines.checks.namespace import Namespace

    places: dict[str, str] = {}
    try:
        there = Namespace(namespace, context)
    except ValueError as error:
        what = "the service account, secrets, config maps, quota and nodes are not checked"
        yield unknown("Kubernetes", f"no kubeconfig ({error}): {what}")
    else:
        if package is not None:
            yield from there.examine(package.needs.with_keys(params.kubeflow.environment), account)
        yield from there.troubles()
        for source in params.kubeflow.environment:
            if source.config_map and _MLFLOW in source.keys:
                places = there.places(source.config_map)
        if retried := retries.look(there):
            yield retried
        if package is not None:
            told = mlflow_place.look(there, package, params.kubeflow.environment)
            if told is not None and told.mark == "no":
                yield told
                return
    yield _mlflow(places.get(_MLFLOW, ""))


def _mlflow(inside: str) -> CheckResult:
    """Whether MLflow answers at the address that pods have, or at ours if that is unknown."""
    uri = inside or os.environ.get(_MLFLOW, "")
    whose = "the config map's" if inside else "ours"
    if uri.strip().lower() == mlflow_place.OFF:
        return CheckResult("MLflow", f"{_MLFLOW} is {mlflow_place.OFF} ({whose}): trainings leave no run")
    if not uri:
        return unknown("MLflow", f"not checked: {_MLFLOW} is neither in a config map that we can read nor set here")
    shown = without_credentials(uri)
    if urlsplit(uri).scheme not in ("http", "https"):
        return missing("MLflow", f"{shown} ({whose}): pods need a server, http(s)://...")
    try:
        with answers.limited(seconds=_LONGEST):
            answer = requests.get(f"{uri.rstrip('/')}/health", timeout=_SECONDS)
    except requests.RequestException as error:
        why = answers.fault(error) or type(error).__name__
        return unknown("MLflow", f"{shown} ({whose}) cannot be reached from here ({why})")
    if answer.status_code >= 500:
        return missing("MLflow", f"{shown} ({whose}) answers {answer.status_code}.")
    return CheckResult("MLflow", f"{shown} ({whose}) answers")
