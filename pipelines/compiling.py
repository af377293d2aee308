"""`mura pipeline compile`: the graph as the YAML that Kubeflow Pipelines takes."""

import tempfile
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import click

from components.archive.overlay import Overlay
from components.base.errors import UsageError
from components.params.document import DEFAULT, Params, read_params

# Linux passes 128 KiB in one word of a command, and the words come twice, once in the whole of the inputs as JSON.
_LONGEST_ARGUMENT = 100_000


class Compiled(NamedTuple):
    """A pipeline, ready to be submitted."""

    name: str
    text: str
    """YAML: the pipeline, and what Kubernetes is told of it. The same choices give the same text."""
    arguments: dict[str, Any]
    """What a run can be given, and the values it has otherwise."""


def compile_pipeline(
    params: Params, *, archive: str | None = None, archive_digest: str = "", code: str | None = None
) -> Compiled:
    """Compile the pipeline.

    Args:
        params: the choices; those that are not about Kubeflow become the defaults of the arguments.
        archive: where the steps find the archive, `s3://...`; the one of the choices if not given.
        archive_digest: what is in it. Kubeflow's cache sees no contents: without a digest, an archive that is changed
            in its place is taken for the old one.
        code: which code the steps run, for the cache; by default that of this checkout.

    Raises:
        UsageError: kfp is not installed, which image to use cannot be told, or the overlay does not fit.
        DataRefused: the overlay of labels makes no sense.
    """
    from components.base import provenance
    from pipelines import images
    from pipelines.door import needs_kfp

    with needs_kfp(), warnings.catch_warnings():
        # kfp warns of its own ways; what is wrong with a pipeline, it raises.
        warnings.simplefilter("ignore")
        from kfp.compiler import Compiler

        from pipelines import graph

        references = {gpu: images.reference(params.kubeflow, "gpu" if gpu else "cpu") for gpu in (False, True)}
        made = graph.pipeline(params, references.__getitem__)
        arguments = {
            "archive": archive or params.archive,
            "archive_digest": archive_digest,
            "overlay": _overlay(Path(params.labels.overlay)),
            "code": code or provenance.code_digest(),
            **_choices(params),
        }
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "pipeline.yaml"
            Compiler().compile(made, str(file), pipeline_parameters=arguments)
            return Compiled(graph.NAME, _without_heading(file.read_text(encoding="utf-8")), arguments)


@click.command("compile")
@click.option("--params", type=click.Path(path_type=Path, dir_okay=False), default=DEFAULT, show_default=True)
@click.option("--archive", metavar="URI", help="Where the steps find the archive. [default: `archive` of --params]")
@click.option("--archive-digest", default="", metavar="DIGEST", help="What is in it, for Kubeflow's cache.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The YAML to write. [default: print it]")
def command(params: Path, archive: str | None, archive_digest: str, out: Path | None) -> None:
    """Compile the pipeline to the YAML that Kubeflow Pipelines takes.

    Choices become defaults of the run's arguments; where it runs, the section `kubeflow`, is fixed in it. It holds no
    place and no secret but the names of the secrets and config maps where the steps find them.
    """
    from components.base.files import write_text

    compiled = compile_pipeline(read_params(params), archive=archive, archive_digest=archive_digest)
    if out is None:
        click.echo(compiled.text, nl=False)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, compiled.text)
    click.echo(f"{out}: pipeline {compiled.name}, {len(compiled.text) / 1000:.0f} kB", err=True)


def _overlay(path: Path) -> str:
    """The text of the overlay of labels: a run takes it along, so that it can be seen, changed and cached by."""
    Overlay.read(path)
    text = path.read_text(encoding="utf-8-sig")
    if len(text.encode()) > _LONGEST_ARGUMENT:
        raise UsageError(
            f"{path}: {len(text.encode()):,} bytes, more than the {_LONGEST_ARGUMENT:,} that a run can take along. "
            "Shorten the reasons, or leave opinions out."
        )
    return text


def _without_heading(text: str) -> str:
    """The YAML without the comments on top.

    They list defaults in an order that changes from run to run, and one of several lines is none but its first.
    """
    return text[text.index("\ncomponents:\n") + 1 :]


def _choices(params: Params) -> dict[str, Any]:
    """The arguments that are choices, by name."""
    chosen = params.model_dump(mode="json", by_alias=True)
    sections = ("seed", "ingest", "validate", "shard", "evaluate", "register", "promote")
    return {name: chosen[name] for name in sections} | {f"train_{key}": entry for key, entry in chosen["train"].items()}
