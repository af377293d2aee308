"""params.yaml to a compiled pipeline."""

import re
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from components.base.code import digest
from components.base.errors import UsageError
from components.kubeflow.executor import DIGITS
from components.params.document import Params
from pipelines.graph import image_names, overlay_argument
from pipelines.graph.package import Package
from pipelines.graph.run_size import MOST, run_size
from pipelines.kfp_extra import needs_kfp

# Sections of choices about what comes after the shards.
_AFTER_SHARDS = ("train", "ensemble", "protocol", "evaluate", "register", "promote")


class Data(NamedTuple):
    """The valid manifest and the shards of an earlier run."""

    manifest: str
    """Where Kubeflow keeps it, a URI."""
    manifest_digest: str
    shards: str
    shards_digest: str

    @classmethod
    def read(cls, manifest: str | None, shards: str | None) -> "Data | None":
        """Parse two times `URI#DIGEST`; None if there is neither.

        Raises:
            UsageError: one is missing, or is no such text.
        """
        if manifest is None and shards is None:
            return None
        return cls(*_place("--manifest", manifest), *_place("--shards", shards))


def _place(flag: str, text: str | None) -> tuple[str, str]:
    """The URI and the digest of an artifact that Kubeflow keeps."""
    if text is None:
        raise UsageError("--manifest and --shards belong together: name both, as one run of mura-data made them.")
    uri, _, known = text.partition("#")
    if not re.fullmatch(r"[a-z0-9]+://[^/]+/.+", uri) or not re.fullmatch(rf"[0-9a-f]{{{DIGITS},64}}", known):
        raise UsageError(
            f"{flag} {text}: expected URI#DIGEST. The last line of the log of `validate` and of `merge-shards` has it; "
            "in Kubeflow's user interface, the step's outputs."
        )
    return uri, known[:DIGITS]


def demand_alone(others: Mapping[str, Any]) -> None:
    """Check that --manifest and --shards come without the flags of what is done before them.

    Raises:
        UsageError: one of them is given.
    """
    if given := [flag for flag, value in others.items() if value]:
        raise UsageError(f"{given[0]}: leave it out. With --manifest and --shards, the run begins after it.")


def compile_pipeline(  # Parameters: each is an argument of the run, or the cache's key
    params: Params,
    *,
    archive: str | None = None,
    archive_digest: str = "",
    archive_name: str = "",
    overlay: str = "",
    parts: int | None = None,
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
        parts: compile the pipeline that makes the shards in so many parts, and ends with them.
        code: digest of the code that a module runs, for the cache; by default of this checkout.

    Raises:
        UsageError: kfp is not installed, no image can be named, the overlay is long and has no place, or there are too
            many parts for a run.
        DataRefused: the overlay of labels makes no sense.
    """
    arguments = {
        "archive": archive or params.archive,
        "archive_digest": archive_digest,
        "archive_name": archive_name,
        "overlay": overlay
        or overlay_argument.argument(Path(params.labels.overlay), archive or params.archive, params.ingest.max_members),
        **_choices(params),
    }
    if parts is None:
        return _compiled(params, arguments, code, "whole_pipeline")
    arguments = {name: each for name, each in arguments.items() if name.partition("_")[0] not in _AFTER_SHARDS}
    made = _compiled(_without_volume(params), arguments, code, "data_pipeline", parts=parts)
    if (size := run_size(made).total) > MOST:
        raise UsageError(
            f"--parts {parts}: a run would become about {size / 1000:.0f} kB. Take fewer, for at most "
            f"{MOST / 1000:.0f} kB: Kubeflow loses sight of larger ones. docs/scale.md has ways without such a limit."
        )
    return made


def compile_training(params: Params, data: Data, *, code: Callable[[str], str] = digest) -> Package:
    """Compile the pipeline from the shards of an earlier run on.

    Args:
        params: as for `compile_pipeline`.
        data: what the run begins with.
        code: as for `compile_pipeline`.

    Raises:
        UsageError: kfp is not installed, or no image can be named.
    """
    later = {
        name: each for name, each in _choices(params).items() if name.partition("_")[0] in ("seed", *_AFTER_SHARDS)
    }
    return _compiled(_without_volume(params), data._asdict() | later, code, "training_pipeline")


def _compiled(
    params: Params, arguments: dict[str, Any], code: Callable[[str], str], graph: str, **more: Any
) -> Package:
    """A graph of `definition`, compiled."""
    with needs_kfp():
        from kfp.compiler import Compiler

        from pipelines.graph import definition

        references = {gpu: image_names.reference(params.kubeflow, "gpu" if gpu else "cpu") for gpu in (False, True)}
        tasks = definition.Tasks(params.kubeflow, references.__getitem__, code)
        # kfp lists all callers whenever something of a task is set. A thread of its own has few.
        with ThreadPoolExecutor(1) as thread:
            made = thread.submit(getattr(definition, graph), params, arguments, tasks, **more).result()
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "pipeline.yaml"
            Compiler().compile(made, str(file), pipeline_parameters=arguments)
            return Package.parse(_without_heading(file.read_bytes()))


def _without_volume(params: Params) -> Params:
    """The choices with shards as Kubeflow's artifact. What lies on a run's volume ends with the run."""
    return params.model_copy(update={"kubeflow": params.kubeflow.model_copy(update={"shards": "artifact"})})


def _without_heading(text: bytes) -> bytes:
    """The YAML without the comments on top. They list the defaults in an order that changes from run to run."""
    return text[text.index(b"\ncomponents:\n") + 1 :]


def _choices(params: Params) -> dict[str, Any]:
    """The choices as arguments, by name."""
    chosen = params.model_dump(mode="json", by_alias=True)
    sections = ("seed", "ingest", "validate", "shard", "protocol", "evaluate", "register", "promote")
    candidates = {f"train_{name}": each.brief() for name, each in params.train.candidates.items()}
    ensembles = {f"ensemble_{name}": each for name, each in chosen["ensembles"].items()}
    return {name: chosen[name] for name in sections} | candidates | ensembles
