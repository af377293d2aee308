"""`mura pipeline compile`: the pipeline as the YAML that Kubeflow Pipelines takes."""

from pathlib import Path

import click

from components.base.files import write_text
from components.base.terminal import tell
from components.params.document import read_params
from pipelines.checks.tracked_archive import demand_reachable
from pipelines.commands.options import PARAMS, part_of_the_work
from pipelines.graph.compiling import Data, compile_pipeline, compile_training, demand_alone
from pipelines.graph.run_size import run_size


@click.command("compile")
@PARAMS
@click.option("--archive", metavar="URI", help="Where the steps find the archive. [default: `archive` of --params]")
@click.option("--archive-digest", default="", metavar="DIGEST", help="Digest of its content, for Kubeflow's cache.")
@click.option(
    "--overlay",
    default="",
    metavar="s3://.../SHA256.csv",
    help="The overlay of labels, if it is too long for an argument. [default: `labels.overlay` of --params]",
)
@part_of_the_work
@click.option(
    "--kubernetes-manifest",
    is_flag=True,
    help="Write resources for `kubectl apply`, for servers that keep pipelines in Kubernetes.",
)
@click.option("--namespace", metavar="NAME", help="Of these resources. [default: that of whoever applies them]")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The YAML to write. [default: print it]")
def command(  # Parameters: the flags
    params: Path,
    archive: str | None,
    archive_digest: str,
    overlay: str,
    parts: int | None,
    manifest: str | None,
    shards: str | None,
    kubernetes_manifest: bool,
    namespace: str | None,
    out: Path | None,
) -> None:
    """Compile the pipeline to the YAML that Kubeflow Pipelines takes.

    Choices become defaults of the run's arguments. The section `kubeflow`, where the steps run, is fixed. The YAML
    contains no address and no secret, only the names of the secrets and config maps. The archive must be on S3.

    With --parts, it is the pipeline mura-data: manifest and shards, each made in N parts at the same time. With
    --manifest and --shards, it is the rest of the work, on what a run of mura-data made.
    """
    if namespace and not kubernetes_manifest:
        raise click.UsageError("--namespace is that of the resources of --kubernetes-manifest.")
    choices = read_params(params)
    data = Data.read(manifest, shards)
    if data is not None:
        demand_alone({"--parts": parts, "--archive": archive, "--archive-digest": archive_digest, "--overlay": overlay})
        package = compile_training(choices, data)
    else:
        demand_reachable(archive or choices.archive)
        package = compile_pipeline(
            choices, archive=archive, archive_digest=archive_digest, overlay=overlay, parts=parts
        )
    text = package.manifests(namespace) if kubernetes_manifest else package.text.decode()
    if out is None:
        click.echo(text, nl=False)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, text)
    size = f"{len(text) / 1000:.0f} kB; a run becomes about {run_size(package).total / 1000:.0f} kB"
    tell(f"{out}: pipeline {package.name}, {size}", err=True)
