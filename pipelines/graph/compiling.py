"""params.yaml to a compiled pipeline."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.base.code import digest
from components.params.document import Params
from pipelines.graph import image_names, overlay_argument
from pipelines.graph.package import Package
from pipelines.kfp_extra import needs_kfp


def compile_pipeline(  # Parameters: each is an argument of the run, or the cache's key
    params: Params,
    *,
    archive: str | None = None,
    archive_digest: str = "",
    archive_name: str = "",
    overlay: str = "",
    code: Callable[[str], str] = digest,
) -> Package:
    """Compile the pipeline. The same choices give the same text.

    Args:
        params: the choices; those that are not about Kubeflow become the defaults of the arguments.
        archive: where the steps find the archive, `s3://...`; by default the one of the choices.
        archive_digest: digest of its content. Kubeflow's cache does not see the content: without a digest, it takes an
            archive that was replaced for the old one.
        archive_name: what people call it; by default the last part of its address.
        overlay: what the steps are given as overlay; by default the one of the choices, as `overlay_argument` says.
        code: digest of the code that a module runs, for the cache; by default of this checkout.

    Raises:
        UsageError: kfp is not installed, no image can be named, or the overlay is long and has no place.
        DataRefused: the overlay of labels makes no sense.
    """
    with needs_kfp():
        from kfp.compiler import Compiler

        from pipelines.graph import definition

        references = {gpu: image_names.reference(params.kubeflow, "gpu" if gpu else "cpu") for gpu in (False, True)}
        arguments = {
            "archive": archive or params.archive,
            "archive_digest": archive_digest,
            "archive_name": archive_name,
            "overlay": overlay or overlay_argument.argument(Path(params.labels.overlay), archive or params.archive),
            **_choices(params),
        }
        tasks = definition.Tasks(params.kubeflow, references.__getitem__, code)
        made = definition.pipeline(params, arguments, tasks)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "pipeline.yaml"
            Compiler().compile(made, str(file), pipeline_parameters=arguments)
            return Package.parse(_without_heading(file.read_bytes()))


def _without_heading(text: bytes) -> bytes:
    """The YAML without the comments on top. They list the defaults in an order that changes from run to run."""
    return text[text.index(b"\ncomponents:\n") + 1 :]


def _choices(params: Params) -> dict[str, Any]:
    """The choices as arguments, by name."""
    chosen = params.model_dump(mode="json", by_alias=True)
    sections = ("seed", "ingest", "validate", "shard", "evaluate", "register", "promote")
    candidates = chosen["train"]["candidates"]
    return {name: chosen[name] for name in sections} | {f"train_{name}": each for name, each in candidates.items()}
