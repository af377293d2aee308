"""Pipelines, versions and experiments on the server. Each is made once."""

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.client.cluster import Kubeflow, whose_name
from pipelines.client.refusal import Exists, Missing
from pipelines.graph.package import Package


class Version(NamedTuple):
    """A version of a pipeline on the server."""

    pipeline_id: str
    version_id: str
    new: bool
    """Whether it was uploaded just now."""


def upload(kubeflow: Kubeflow, package: Package, description: str) -> Version:
    """Upload a package unless the server has a version with its content.

    Two clients that do it at the same time make one version.

    Args:
        kubeflow: the server.
        package: the compiled pipeline.
        description: of a new version, in the user interface.
    """
    pipeline_id = _pipeline(kubeflow, package.name)
    if found := _version(kubeflow, pipeline_id, package.version):
        return Version(pipeline_id, found, new=False)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{package.name}.yaml"
        file.write_bytes(package.text)
        try:
            made = kubeflow.call(
                f"uploading {package.name}",
                kubeflow.client.pipeline_uploads.upload_pipeline_version,
                str(file),
                name=package.version,
                pipelineid=pipeline_id,
                description=description,
            )
        except Exists:
            # Another client was faster.
            found = _version(kubeflow, pipeline_id, package.version)
            if not found:
                raise
            return Version(pipeline_id, found, new=False)
    return Version(pipeline_id, str(made.pipeline_version_id), new=True)


def experiment(kubeflow: Kubeflow, name: str) -> str:
    """Id of the experiment of that name. It is made if there is none."""
    service = kubeflow.client.experiments
    if found := _experiment(kubeflow, name):
        return found
    body = kubeflow.client.api_models.V2beta1Experiment(display_name=name, namespace=kubeflow.namespace or None)
    try:
        made = kubeflow.call(
            f"making the experiment {name}", service.experiment_service_create_experiment, experiment=body
        )
    except Exists:
        found = _experiment(kubeflow, name)
        if not found:
            raise
        return found
    return str(made.experiment_id)


def _pipeline(kubeflow: Kubeflow, name: str) -> str:
    """Id of the pipeline of that name. It is made empty: a version uploaded with it would have the pipeline's name."""
    service = kubeflow.client.pipelines

    def ask() -> Any:
        where = {"namespace": kubeflow.namespace} if kubeflow.namespace else {}
        return kubeflow.call(
            f"looking for the pipeline {name}", service.pipeline_service_get_pipeline_by_name, name, **where
        )

    try:
        return str(ask().pipeline_id)
    except Missing:
        body = kubeflow.client.api_models.V2beta1Pipeline(
            name=name, display_name=name, namespace=kubeflow.namespace or None
        )
    try:
        made = kubeflow.call(f"making the pipeline {name}", service.pipeline_service_create_pipeline, pipeline=body)
    except Exists:
        made = ask()
    return str(made.pipeline_id)


def _version(kubeflow: Kubeflow, pipeline_id: str, name: str) -> str | None:
    found = kubeflow.pages(
        "listing the pipeline's versions",
        kubeflow.client.pipelines.pipeline_service_list_pipeline_versions,
        "pipeline_versions",
        pipeline_id=pipeline_id,
        filter=whose_name("EQUALS", name),
    )
    return next((str(each.pipeline_version_id) for each in found), None)


def _experiment(kubeflow: Kubeflow, name: str) -> str | None:
    found = kubeflow.pages(
        "listing experiments",
        kubeflow.client.experiments.experiment_service_list_experiments,
        "experiments",
        namespace=kubeflow.namespace,
        filter=whose_name("EQUALS", name),
    )
    return next((str(each.experiment_id) for each in found), None)
