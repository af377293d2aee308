"""Flags that several commands have."""

import functools
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from components.params import DEFAULT
from pipelines.client.access import AUTHENTICATIONS, COOKIE, HOST, NAMESPACE, TOKEN, TOKEN_PATH, Access
from pipelines.client.submission import Choices

_CLUSTER = (
    click.option("--host", metavar="URL", help=f"Kubeflow Pipelines' API. [default: {HOST}]"),
    click.option(
        "--namespace",
        metavar="NAME",
        help=f"Your namespace, if the server has one for each user. [default: {NAMESPACE}]",
    ),
    click.option(
        "--auth",
        "authentication",
        type=click.Choice(AUTHENTICATIONS),
        help=f"How to log in: with {TOKEN}, with the file that {TOKEN_PATH} names (in a pod), or with {COOKIE} (from a "
        "browser). [default: the one that is set]",
    ),
    click.option(
        "--ca",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Certificates, PEM, of the authority that signed the server's.",
    ),
    click.option("--insecure", is_flag=True, help="Do not check the server's certificate."),
    click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=20.0,
        show_default=True,
        help="Seconds to wait for an answer. A request is sent up to four times.",
    ),
)

PARAMS = click.option(
    "--params",
    type=click.Path(path_type=Path, dir_okay=False),
    default=DEFAULT,
    show_default=True,
    help="The choices to compile, and the section `kubeflow`.",
)

_DATA = (
    click.option(
        "--parts",
        type=click.IntRange(min=1),
        metavar="N",
        help="Make the shards only, in N parts at the same time: the pipeline mura-data.",
    ),
    click.option("--manifest", metavar="URI#DIGEST", help="Begin with this valid manifest, and --shards."),
    click.option("--shards", metavar="URI#DIGEST", help="Begin with these shards: no archive, the trainings only."),
)

_SUBMISSION = (
    PARAMS,
    *_DATA,
    click.option(
        "--package",
        type=click.Path(path_type=Path, dir_okay=False),
        help="A compiled pipeline, instead of compiling --params.",
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
        help="Another value for an argument of the pipeline: text, or JSON if it is not text. Repeat the flag.",
    ),
    click.option("--no-cache", is_flag=True, help="Run every step. Take nothing from the cache."),
    click.option("--experiment", help="The runs are listed under it. [default: `kubeflow.experiment`]"),
    click.option("--service-account", help="Account that runs the pods. [default: `kubeflow.service_account`]"),
    click.option("--pipeline-root", metavar="URI", help="Where artifacts go. [default: the server's own place]"),
    click.option(
        "--no-check",
        is_flag=True,
        help="Do not check that the archive and the images exist. For when S3 or the registry cannot be reached.",
    ),
    click.option("--dry-run", is_flag=True, help="Show what would be sent. Send no request."),
)

INTERVAL = click.option(
    "--interval",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Seconds between two requests for the run's state.",
)


def part_of_the_work(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags that name a part of the pipeline to a command."""
    for flag in reversed(_DATA):
        command = flag(command)
    return command


def cluster(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags for the server to a command. It gets `access` in their place."""

    @functools.wraps(command)
    def with_access(
        *,
        host: str | None,
        namespace: str | None,
        authentication: str | None,
        ca: Path | None,
        insecure: bool,
        timeout: float,
        **others: Any,
    ) -> Any:
        if others.get("dry_run") and not (host or os.environ.get(HOST)):
            access = Access("", namespace or os.environ.get(NAMESPACE))
        else:
            access = Access.of(host, namespace, authentication, ca=ca, verify=not insecure, seconds=timeout)
        return command(access=access, **others)

    for flag in reversed(_CLUSTER):
        with_access = flag(with_access)
    return with_access


def chosen(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags of a submission to a command. It gets `choices` in their place."""

    @functools.wraps(command)
    def with_choices(**flags: Any) -> Any:
        mine = {each.name: flags.pop(each.name) for each in fields(Choices)}
        return command(choices=Choices(**mine), **flags)

    for flag in reversed(_SUBMISSION):
        with_choices = flag(with_choices)
    return with_choices
