"""The flags with which commands reach Kubeflow Pipelines."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pipelines.access import AUTHENTICATIONS, COOKIE, HOST, NAMESPACE, TOKEN, TOKEN_PATH, Access

_FLAGS = (
    click.option("--host", metavar="URL", help=f"Kubeflow Pipelines' API. [default: {HOST}]"),
    click.option(
        "--namespace",
        metavar="NAME",
        help=f"Your namespace, where the server has one for each user. [default: {NAMESPACE}]",
    ),
    click.option(
        "--auth",
        "authentication",
        type=click.Choice(AUTHENTICATIONS),
        help=f"How we say who we are: {TOKEN}, the file that {TOKEN_PATH} names (in a pod), or {COOKIE} (as a browser "
        "sends it). [default: what is set]",
    ),
    click.option(
        "--ca",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Certificates, PEM, of who signed the server's.",
    ),
    click.option("--insecure", is_flag=True, help="Do not look at the server's certificate."),
    click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=20.0,
        show_default=True,
        help="Seconds to wait for an answer; a question is asked up to four times.",
    ),
)

INTERVAL = click.option(
    "--interval",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Seconds between two looks at the run.",
)


def cluster(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the flags, and in their place an `access`."""

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
        access = Access.of(host, namespace, authentication, ca=ca, verify=not insecure, seconds=timeout)
        return command(access=access, **others)

    for flag in reversed(_FLAGS):
        with_access = flag(with_access)
    return with_access
