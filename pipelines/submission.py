"""What is to be run, on what data: gathered from params.yaml, DVC and flags before a cluster is asked."""

import functools
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from components.base.errors import UsageError
from components.params.document import DEFAULT, Params, read_params
from pipelines.access import Access
from pipelines.package import Package
from pipelines.tracked import Located, locate, present

logger = logging.getLogger(__name__)

# Arguments of the pipeline that tell where the data is and what it is.
_ARCHIVE, _DIGEST = "archive", "archive_digest"

_FLAGS = (
    click.option(
        "--params",
        type=click.Path(path_type=Path, dir_okay=False),
        default=DEFAULT,
        show_default=True,
        help="What is compiled, and the section `kubeflow`.",
    ),
    click.option(
        "--package",
        type=click.Path(path_type=Path, dir_okay=False),
        help="A pipeline compiled before, instead of compiling --params.",
    ),
    click.option(
        "--archive",
        metavar="PATH|URI",
        help="A file that DVC tracks, found on its S3 remote; or s3://bucket/key. [default: `archive` of --params]",
    ),
    click.option(
        "--set",
        "changes",
        metavar="NAME=VALUE",
        multiple=True,
        help="Another value for an argument of the pipeline: text, or JSON where it is no text. Repeat the flag.",
    ),
    click.option("--no-cache", is_flag=True, help="Run every step, whatever has run before."),
    click.option("--experiment", help="Where the runs are listed. [default: `kubeflow.experiment`]"),
    click.option("--service-account", help="Runs the pods. [default: `kubeflow.service_account`]"),
    click.option("--pipeline-root", metavar="URI", help="Where artifacts go. [default: the server's own place]"),
    click.option(
        "--no-check",
        is_flag=True,
        help="Do not look whether the archive and the images are there, where S3 and the registry are out of reach.",
    ),
    click.option("--dry-run", is_flag=True, help="Show what would be sent, and ask nobody."),
)


@dataclass(frozen=True)
class Choices:
    """What the flags say."""

    params: Path
    package: Path | None
    archive: str | None
    changes: tuple[str, ...]
    no_cache: bool
    experiment: str | None
    service_account: str | None
    pipeline_root: str | None
    no_check: bool
    dry_run: bool


def chosen(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the flags, and in their place `choices`."""

    @functools.wraps(command)
    def with_choices(**flags: Any) -> Any:
        mine = {each.name: flags.pop(each.name) for each in fields(Choices)}
        return command(choices=Choices(**mine), **flags)

    for flag in reversed(_FLAGS):
        with_choices = flag(with_choices)
    return with_choices


@dataclass(frozen=True)
class Submission:
    """What would be sent."""

    package: Package
    experiment: str
    arguments: dict[str, Any]
    """Only those that differ from what the package has by itself, and those that tell of the data."""
    archive: Located | None
    service_account: str | None
    pipeline_root: str | None

    def lines(self, access: Access) -> list[str]:
        """The same for people, a line each; without secrets, of which it has none."""
        needs = self.package.needs
        told = [
            ("to", f"{access.host}{f', namespace {access.namespace}' if access.namespace else ''}"),
            ("as", access.authentication if access.authentication != "none" else "nobody in particular"),
            (
                "pipeline",
                f"{self.package.name}, {len(self.package.steps)} steps, {len(self.package.text) / 1000:.0f} kB",
            ),
            ("version", self.package.version),
            ("experiment", self.experiment),
        ]
        if self.archive is not None:
            size = f", {self.archive.size:,} bytes" if self.archive.size is not None else ""
            told.append(("archive", f"{self.archive.uri}{size}, said by {self.archive.source}"))
        told += [("image", image) for image in needs.images]
        told += [("gpu", f"{count} x {kind}, if all steps run at once") for kind, count in needs.gpus.items()]
        for need in needs.sources:
            keys = f": {', '.join(need.keys)}" if need.keys else ""
            told.append((need.kind, f"{need.name}{' (optional)' if need.optional else ''}{keys}"))
        if self.service_account:
            told.append(("account", self.service_account))
        if self.pipeline_root:
            told.append(("root", self.pipeline_root))
        told += [("argument", f"{name} = {json.dumps(value)}") for name, value in self.arguments.items()]
        return [f"{subject:12}{found}".rstrip() for subject, found in told]


def gather(choices: Choices) -> Submission:
    """Find out what to send, compile it, and see that data and images are there.

    Raises:
        UsageError: a choice is wrong, the archive or an image is not there.
        ServiceUnreachable: S3 does not answer.
    """
    from pipelines import registry

    params = read_params(choices.params)
    if choices.pipeline_root and "://" not in choices.pipeline_root:
        raise UsageError(f"--pipeline-root {choices.pipeline_root}: expected s3://bucket/prefix.")
    check = not (choices.no_check or choices.dry_run)
    located = locate(choices.archive or params.archive)
    if check:
        located = present(located)
    made = Package.read(choices.package) if choices.package else _compiled(params, located)
    if choices.no_cache:
        made = made.without_caching()
    arguments = {name: value for name, value in _data(located).items() if name in made.parameters}
    for change in choices.changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise UsageError(f"--set {change}: expected NAME=VALUE.")
        arguments[name] = made.argument(name, text)
    if choices.no_check and not choices.no_cache and arguments.get(_DIGEST) == "":
        raise UsageError(
            f"--no-check: what is in {located.uri} is not known, and Kubeflow's cache would take earlier results for "
            f"those of today. Say what it is, --set {_DIGEST}=NAME, or use no cache, --no-cache."
        )
    missing = [name for name, each in made.parameters.items() if each.required and name not in arguments]
    if missing:
        raise UsageError(f"{made.name} needs a value for {', '.join(missing)}: --set {missing[0]}=VALUE.")
    if check:
        for said in registry.demand(made.needs.images):
            logger.info("%s", said)
    return Submission(
        made,
        choices.experiment or params.kubeflow.experiment,
        arguments,
        located,
        choices.service_account or params.kubeflow.service_account,
        choices.pipeline_root,
    )


def _compiled(params: Params, located: Located) -> Package:
    from pipelines.compiling import compile_pipeline

    compiled = compile_pipeline(params, archive=located.uri, archive_digest=located.digest)
    return Package.parse(compiled.text.encode())


def _data(located: Located) -> dict[str, str]:
    return {_ARCHIVE: located.uri, _DIGEST: located.digest}
