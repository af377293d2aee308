"""What is to be run, on what data: from params.yaml, DVC and flags, before a request to the cluster."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.base.errors import UsageError
from components.params.document import Params, read_params
from components.params.kubeflow import EnvironmentSource
from pipelines.checks import image_registry
from pipelines.checks.tracked_archive import Located, demand_reachable, locate, present
from pipelines.client.access import Access
from pipelines.graph import overlay_argument
from pipelines.graph.compiling import Data, compile_pipeline, compile_training, demand_alone
from pipelines.graph.package import Package

logger = logging.getLogger(__name__)

# Arguments of the pipeline: where the archive is, the digest of its content, and what people call it.
_ARCHIVE, _DIGEST, _NAME = "archive", "archive_digest", "archive_name"


@dataclass(frozen=True)
class Choices:
    """Flags of the commands that send a pipeline."""

    params: Path
    parts: int | None
    manifest: str | None
    shards: str | None
    package: Path | None
    archive: str | None
    changes: tuple[str, ...]
    no_cache: bool
    experiment: str | None
    service_account: str | None
    pipeline_root: str | None
    no_check: bool
    dry_run: bool


@dataclass(frozen=True)
class Submission:
    """What is sent to the server."""

    package: Package
    experiment: str
    arguments: dict[str, Any]
    """Those that differ from the defaults of the package, and those about the archive."""
    archive: Located | None
    """None if the run begins with the shards of another."""
    service_account: str | None
    pipeline_root: str | None
    sources: tuple[EnvironmentSource, ...] = ()
    """Secrets and config maps of the choices."""

    def lines(self, access: Access) -> list[str]:
        """The same for people, a line for each thing. There are no secrets in it."""
        needs = self.package.needs.with_keys(self.sources)
        told = [
            (
                "to",
                f"{access.host or 'no server is named'}{f', namespace {access.namespace}' if access.namespace else ''}",
            ),
            ("as", access.authentication if access.authentication != "none" else "no login"),
            (
                "pipeline",
                f"{self.package.name}, {len(self.package.steps)} steps, {len(self.package.text) / 1000:.0f} kB",
            ),
            ("version", self.package.version),
            ("experiment", self.experiment),
        ]
        if self.archive is not None:
            size = f", {self.archive.size:,} bytes" if self.archive.size is not None else ""
            told.append(("archive", f"{self.archive.uri}{size}, according to {self.archive.source}"))
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
    """Compile the pipeline, choose its arguments, and check that the archive and the images exist.

    Raises:
        UsageError: a choice is wrong, or the archive or an image does not exist.
        ServiceUnreachable: S3 does not answer.
    """
    params = read_params(choices.params)
    if choices.pipeline_root and "://" not in choices.pipeline_root:
        raise UsageError(f"--pipeline-root {choices.pipeline_root}: expected s3://bucket/prefix.")
    check = not (choices.no_check or choices.dry_run)
    begin = _begin(choices, params, check)
    if choices.package:
        made = Package.read(choices.package)
    elif isinstance(begin, Data):
        made = compile_training(params, begin)
    else:
        made = _compiled(params, begin, check, choices.parts)
    if choices.no_cache:
        made = made.without_caching()
    arguments = {name: value for name, value in _about(begin).items() if name in made.parameters}
    for change in choices.changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise UsageError(f"--set {change}: expected NAME=VALUE.")
        arguments[name] = made.argument(name, text)
    if _ARCHIVE in arguments:
        demand_reachable(str(arguments[_ARCHIVE]))
    if choices.no_check and not choices.no_cache and arguments.get(_DIGEST) == "":
        raise UsageError(
            f"--no-check: the digest of {arguments[_ARCHIVE]} is not known, and Kubeflow's cache could take results of "
            f"other data. Give a digest, --set {_DIGEST}=NAME, or use no cache, --no-cache."
        )
    missing = [name for name, each in made.parameters.items() if each.required and name not in arguments]
    if missing:
        raise UsageError(f"{made.name} needs a value for {', '.join(missing)}: --set {missing[0]}=VALUE.")
    if check:
        for line in image_registry.demand(made.needs.images):
            logger.info("%s", line)
    return Submission(
        made,
        choices.experiment or params.kubeflow.experiment,
        arguments,
        begin if isinstance(begin, Located) else None,
        choices.service_account or params.kubeflow.service_account,
        choices.pipeline_root,
        params.kubeflow.environment,
    )


def _begin(choices: Choices, params: Params, check: bool) -> Data | Located:
    """What the run begins with: the shards of another run, or the archive."""
    data = Data.read(choices.manifest, choices.shards)
    if choices.package and (data or choices.parts):
        raise UsageError(
            "--package: a compiled pipeline knows what it does. Give --parts, --manifest and --shards to "
            "`mura pipeline compile`."
        )
    if data is not None:
        demand_alone({"--parts": choices.parts, "--archive": choices.archive})
        return data
    located = locate(choices.archive or params.archive)
    return present(located) if check else located


def _about(begin: Data | Located) -> dict[str, Any]:
    """The arguments of a run that say what it begins with."""
    if isinstance(begin, Data):
        return begin._asdict()
    return {_ARCHIVE: begin.uri, _DIGEST: begin.digest, _NAME: begin.name}


def _compiled(params: Params, located: Located, store: bool, parts: int | None) -> Package:
    """The pipeline for an archive. A long overlay is stored beside the archive, if it may be."""
    path = Path(params.labels.overlay)
    overlay = overlay_argument.argument(path, located.uri, params.ingest.max_members)
    if store and overlay_argument.store(path, overlay):
        logger.info("overlay: %s stored as %s", path, overlay)
    return compile_pipeline(
        params,
        archive=located.uri,
        archive_digest=located.digest,
        archive_name=located.name,
        overlay=overlay,
        parts=parts,
    )
