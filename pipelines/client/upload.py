"""Pipelines, versions and experiments on the server. Each is made once."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from components.base import provenance
from pipelines.client.cluster import Kubeflow, whose_name
from pipelines.client.refusal import Exists, Missing
from pipelines.client.submission import Submission
from pipelines.graph.package import Package


class Version(NamedTuple):
    """A version of a pipeline on the server."""

    pipeline_id: str
    version_id: str
    new: bool
    """Whether it was uploaded just now."""


def upload(kubeflow: Kubeflow, package: Package) -> Version:
    """Upload a compiled pipeline unless the server has a version with its content."""
    pipeline_id = _pipeline(kubeflow, package.name)

    def look() -> str | None:
        found = kubeflow.pages(
            "listing the pipeline's versions",
            kubeflow.client.pipelines.pipeline_service_list_pipeline_versions,
            "pipeline_versions",
            pipeline_id=pipeline_id,
            filter=whose_name("EQUALS", package.version),
        )
        return next((str(each.pipeline_version_id) for each in found), None)

    def make() -> str:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{package.name}.yaml"
            file.write_bytes(package.text)
            made = kubeflow.call(
                f"uploading {package.name}",
                kubeflow.client.pipeline_uploads.upload_pipeline_version,
                str(file),
                name=package.version,
                pipelineid=pipeline_id,
                description=f"code revision {provenance.code_revision()}",
            )
        return str(made.pipeline_version_id)

    return Version(pipeline_id, *_once(look, make))


def fields(kubeflow: Kubeflow, version: Version, submission: Submission) -> dict[str, Any]:
    """The fields that a run and a recurring run have in common."""
    models = kubeflow.client.api_models
    return {
        "pipeline_version_reference": models.V2beta1PipelineVersionReference(
            pipeline_id=version.pipeline_id, pipeline_version_id=version.version_id
        ),
        "runtime_config": models.V2beta1RuntimeConfig(
            parameters=submission.arguments, pipeline_root=submission.pipeline_root
        ),
        "service_account": submission.service_account,
    }


def experiment(kubeflow: Kubeflow, name: str) -> str:
    """Id of the experiment of that name. It is made if there is none."""
    service = kubeflow.client.experiments

    def look() -> str | None:
        found = kubeflow.pages(
            "listing experiments",
            service.experiment_service_list_experiments,
            "experiments",
            namespace=kubeflow.namespace,
            filter=whose_name("EQUALS", name),
        )
        # For the server, names that differ in case are the same: there may be one of another case and not this one too.
        ids = {each.display_name: str(each.experiment_id) for each in found}
        return ids.get(name) or next(iter(ids.values()), None)

    def make() -> str:
        body = kubeflow.client.api_models.V2beta1Experiment(display_name=name, namespace=kubeflow.namespace or None)
        create = service.experiment_service_create_experiment
        return str(kubeflow.call(f"making the experiment {name}", create, experiment=body).experiment_id)

    return _once(look, make)[0]


def _pipeline(kubeflow: Kubeflow, name: str) -> str:
    """Id of the pipeline of that name. It is made empty: a version uploaded with it would have the pipeline's name."""
    service = kubeflow.client.pipelines
    where = {"namespace": kubeflow.namespace} if kubeflow.namespace else {}

    def look() -> str | None:
        get = service.pipeline_service_get_pipeline_by_name
        try:
            return str(kubeflow.call(f"looking for the pipeline {name}", get, name, **where).pipeline_id)
        except Missing:
            return None

    def make() -> str:
        body = kubeflow.client.api_models.V2beta1Pipeline(name=name, display_name=name, **where)
        create = service.pipeline_service_create_pipeline
        return str(kubeflow.call(f"making the pipeline {name}", create, pipeline=body).pipeline_id)

    return _once(look, make)[0]


def _once(look: Callable[[], str | None], make: Callable[[], str]) -> tuple[str, bool]:
    """The id of a thing, and whether it was made now. Two clients that do it at the same time make one."""
    if found := look():
        return found, False
    try:
        return make(), True
    except Exists:
        # Another client was faster.
        if not (found := look()):
            raise
        return found, False
