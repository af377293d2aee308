"""`mura pipeline compile`: the pipeline as the YAML that Kubeflow Pipelines takes."""

from pathlib import Path

import click

from components.base.files import write_text
from components.params.document import read_params
from pipelines.commands.options import PARAMS
from pipelines.graph.compiling import compile_pipeline


@click.command("compile")
@PARAMS
@click.option("--archive", metavar="URI", help="Where the steps find the archive. [default: `archive` of --params]")
@click.option("--archive-digest", default="", metavar="DIGEST", help="Digest of its content, for Kubeflow's cache.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The YAML to write. [default: print it]")
def command(params: Path, archive: str | None, archive_digest: str, out: Path | None) -> None:
    """Compile the pipeline to the YAML that Kubeflow Pipelines takes.

    Choices become defaults of the run's arguments. The section `kubeflow`, where the steps run, is fixed. The YAML
    contains no address and no secret, only the names of the secrets and config maps.
    """
    package = compile_pipeline(read_params(params), archive=archive, archive_digest=archive_digest)
    text = package.text.decode()
    if out is None:
        click.echo(text, nl=False)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, text)
    click.echo(f"{out}: pipeline {package.name}, {len(text) / 1000:.0f} kB", err=True)
