"""`mura pipeline doctor`: the way to the cluster, and what is missing on it."""

import os
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

import click

from components.base.errors import MuraError, ServiceUnreachable
from components.params.document import DEFAULT, Params, read_params
from pipelines.access import Access, without_credentials
from pipelines.finding import Finding, missing, unknown
from pipelines.options import cluster
from pipelines.package import Package
from pipelines.tracked import Located, locate, present

_MLFLOW = "MLFLOW_TRACKING_URI"
# Whose leave pods act by, when nobody names an account: of Kubeflow alone, and of Kubeflow with a namespace per user.
_ACCOUNTS = {False: "pipeline-runner", True: "default-editor"}
_SECONDS = (5, 10)


@click.command("doctor")
@click.option(
    "--params",
    type=click.Path(path_type=Path, dir_okay=False),
    default=DEFAULT,
    show_default=True,
    help="What would be compiled, and the section `kubeflow`.",
)
@click.option("--archive", metavar="PATH|URI", help="What would be run on. [default: `archive` of --params]")
@click.option("--kube-context", metavar="NAME", help="Of the kubeconfig. [default: the current one]")
@cluster
def command(access: Access, params: Path, archive: str | None, kube_context: str | None) -> None:
    """Check the way to the cluster, and say what is missing on it.

    A line for each check: `ok`; `no`, a run would fail, and what to do; `--`, it cannot be looked at from here, or a
    run may do without. Kubeflow Pipelines is asked for its version and for the namespace, S3 for the archive, the
    registry for the images, MLflow whether it answers; and, with a kubeconfig, Kubernetes for the service account,
    secrets, config maps, quota and nodes. Nothing is changed, and no secret's value is shown.

    \b
    Exit codes: 0 nothing is missing; 2 wrong usage; 5 at least one `no`.
    """  # noqa: D301 - click wants the backspace itself
    findings = []
    for finding in examine(access, read_params(params), archive, kube_context):
        click.echo(str(finding))
        findings.append(finding)
    if failed := sum(each.mark == "no" for each in findings):
        raise ServiceUnreachable(
            f"doctor: {failed} of {len(findings)} checks failed; the lines with `no` say what to do."
        )


def examine(access: Access, params: Params, archive: str | None, context: str | None) -> Iterator[Finding]:
    """Check one thing after the other."""
    found, located = _archive(archive or params.archive)
    package, compiled = _package(params, located)
    yield compiled
    multi_user = False
    for finding, many in _kubeflow(access):
        multi_user = multi_user or many
        yield finding
    yield found
    if package is not None:
        yield from _images(package)
    namespace = access.namespace or "kubeflow"
    account = params.kubeflow.service_account or _ACCOUNTS[multi_user]
    yield from _cluster(namespace, context, account, package, params)


def _package(params: Params, located: Located | None) -> tuple[Package | None, Finding]:
    from pipelines.compiling import compile_pipeline

    uri, digest = (located.uri, located.digest) if located else (None, "")
    try:
        compiled = compile_pipeline(params, archive=uri, archive_digest=digest)
    except MuraError as error:
        return None, missing("pipeline", str(error))
    package = Package.parse(compiled.text.encode())
    size = f"{len(package.text) / 1000:.0f} kB"
    return package, Finding(
        "pipeline", f"{len(package.steps)} steps, {size}, compiled by kfp {metadata.version('kfp')}"
    )


def _kubeflow(access: Access) -> Iterator[tuple[Finding, bool]]:
    """The API, and whether it has a namespace for each user."""
    from pipelines.cluster import OLDEST_SERVER, Kubeflow

    oldest = ".".join(map(str, OLDEST_SERVER))
    kubeflow = Kubeflow(access)
    try:
        server = kubeflow.server
    except MuraError as error:
        yield missing("API", str(error)), False
        yield unknown("namespace", "not looked at: the API does not answer"), False
        return
    users = "a namespace for each user" if server.multi_user else "one namespace for all"
    if server.too_old:
        yield missing("API", f"version {server.version}: {oldest} or newer is needed."), server.multi_user
    elif server.numbers is None:
        yield unknown("API", f"version {server.version}, {oldest} or newer is needed; {users}"), server.multi_user
    else:
        yield Finding("API", f"version {server.version}, {users}"), server.multi_user
    try:
        experiments = kubeflow.call(
            "listing experiments",
            kubeflow.client.experiments.experiment_service_list_experiments,
            page_size=1,
            namespace=kubeflow.namespace,
        )
        runs = kubeflow.call(
            "listing runs", kubeflow.client.runs.run_service_list_runs, page_size=1, namespace=kubeflow.namespace
        )
    except MuraError as error:
        yield missing("access", str(error)), server.multi_user
        return
    where = f"in {kubeflow.namespace} " if kubeflow.namespace else ""
    whom = "without a login" if access.authentication == "none" else f"by {access.authentication}"
    told = f"{experiments.total_size or 0} experiments and {runs.total_size or 0} runs {where}seen {whom}"
    yield Finding("access", told), server.multi_user


def _archive(place: str) -> tuple[Finding, Located | None]:
    try:
        located = locate(place)
    except MuraError as error:
        return missing("archive", str(error)), None
    try:
        located = present(located)
    except ServiceUnreachable as error:
        return unknown("archive", f"not looked at: {error}"), located
    except MuraError as error:
        return missing("archive", str(error)), located
    return Finding("archive", f"{located.uri}, {located.size:,} bytes"), located


def _images(package: Package) -> Iterator[Finding]:
    from pipelines import registry

    for image in package.needs.images:
        looked = registry.look(image)
        if looked.there is False:
            yield missing("image", f"{looked.said}. Build and push it: `make image`, `podman push`.")
        else:
            yield Finding("image", looked.said, "ok" if looked.there else "--")


def _cluster(
    namespace: str, context: str | None, account: str, package: Package | None, params: Params
) -> Iterator[Finding]:
    from pipelines.namespace import Namespace

    places: dict[str, str] = {}
    try:
        there = Namespace(namespace, context)
    except ValueError as error:
        what = "the service account, secrets, config maps, quota and nodes are not looked at"
        yield unknown("Kubernetes", f"no kubeconfig ({error}): {what}")
    else:
        if package is not None:
            yield from there.examine(package.needs, account)
        for source in params.kubeflow.environment:
            if source.config_map and _MLFLOW in source.keys:
                places = there.places(source.config_map)
    yield _mlflow(places.get(_MLFLOW, ""))


def _mlflow(inside: str) -> Finding:
    """Whether MLflow answers at the address that pods have, else at ours."""
    import requests

    uri = inside or os.environ.get(_MLFLOW, "")
    whose = "the config map's" if inside else "ours"
    if not uri:
        return unknown("MLflow", f"not looked at: {_MLFLOW} is neither in a config map that we can read nor set here")
    shown = without_credentials(uri)
    if urlsplit(uri).scheme not in ("http", "https"):
        return missing("MLflow", f"{shown} ({whose}): pods need a server, http(s)://...")
    try:
        answer = requests.get(f"{uri.rstrip('/')}/health", timeout=_SECONDS)
    except requests.RequestException as error:
        return unknown("MLflow", f"{shown} ({whose}) cannot be reached from here ({type(error).__name__})")
    if answer.status_code >= 500:
        return missing("MLflow", f"{shown} ({whose}) answers {answer.status_code}.")
    return Finding("MLflow", f"{shown} ({whose}) answers")
