"""DVC: its repository, its tracked files and its remotes."""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from components.base import documents, space
from components.base.errors import OutsideFailed, UsageError, first_line
from components.base.urls import without_credentials


def is_installed() -> bool:
    """Whether DVC is here. An image has none."""
    return importlib.util.find_spec("dvc") is not None


def root(folder: Path) -> Path:
    """The DVC repository that contains a folder.

    Raises:
        UsageError: there is none, or DVC is not installed.
    """
    if not is_installed():
        raise UsageError("DVC is not installed here. Outside an image, `make setup` installs it.")
    folder = folder.resolve()
    for each in (folder, *folder.parents):
        if (each / ".dvc").is_dir():
            _check_git(each)
            return each
    raise UsageError(f"{folder}: not inside a DVC repository. Run in the project's directory.")


def _check_git(repository: Path) -> None:
    """Refuse a download without git, unless DVC is told to do without.

    Raises:
        UsageError: DVC would refuse to work here.
    """
    if any((each / ".git").exists() for each in (repository, *repository.parents)):
        return
    settings = [path.read_text(encoding="utf-8") for path in (repository / ".dvc").glob("config*") if path.is_file()]
    if not any(re.search(r"^\s*no_scm\s*=\s*true", text, re.MULTILINE | re.IGNORECASE) for text in settings):
        raise UsageError(
            f"{repository}: this is no git repository, and DVC expects one. Run `git init` here, or "
            "`dvc config --local core.no_scm true` to work without."
        )


def add(path: Path) -> str:
    """Track a file with DVC.

    Returns:
        The md5 that DVC has computed.

    Raises:
        UsageError: DVC refuses the file, for example because it is the output of a stage.
        OutsideFailed: the disk is full.
    """
    # With ./ in front, a name that begins with - is no option.
    _run(path, path.parent, "add", f"./{path.name}")
    pointer = documents.yaml_of(path.with_name(f"{path.name}.dvc").read_text(encoding="utf-8"))
    return str(pointer["outs"][0]["md5"])


def commit(stages: Sequence[str]) -> list[str]:
    """Let DVC take what lies in the workspace as the results of stages of the dvc.yaml here.

    Args:
        stages: as DVC calls them.

    Returns:
        Those that were not up to date before.

    Raises:
        UsageError: DVC refuses.
        OutsideFailed: the disk is full, or another DVC is at work here.
    """
    here = Path.cwd()
    changes = documents.json_of(_run(here, here, "status", "--json", *stages))
    stale = [stage for stage in stages if changes.get(stage, ["always changed"]) != ["always changed"]]
    if stale:
        _run(here, here, "commit", "--force", *stale)
    return stale


def _run(about: Path, folder: Path, *words: str) -> str:
    """What a command of DVC prints. In a process of its own: DVC changes logging and the working directory."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *words],
        cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace",
    )  # fmt: skip
    if done.returncode == 0:
        return done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
    why = lines[0].removeprefix("ERROR: ") if lines else f"exit code {done.returncode}"
    if any(os.strerror(number) in done.stderr for number in space.FULL):
        raise OutsideFailed(f"{about}: no space is left for DVC's copy of it. Free some space.")
    if "lock" in why and "acquire" in why:
        raise OutsideFailed(f"{about}: another DVC is at work here. Run the command again when it has ended.")
    raise UsageError(f"{about}: `dvc {words[0]}` failed: {why}")


def origin(path: Path) -> str | None:
    """What gives DVC a file: the .dvc file that tracks it, or the stage that makes it. None if nothing does.

    Args:
        path: a file or directory, or a part of one that DVC knows.
    """
    try:
        here = root(Path.cwd())
    except UsageError:
        return None
    from dvc.exceptions import DvcException, OutputNotFoundError
    from dvc.repo import Repo

    try:
        with Repo(str(here)) as repo:
            found: str = repo.find_outs_by_path(os.path.abspath(path), strict=False)[0].stage.addressing  # noqa: PTH100
    except OutputNotFoundError:
        return None
    except DvcException as error:
        raise UsageError(f"{here}: {first_line(error)}") from error
    return found


def set_remote(name: str, url: str, endpoint: str | None, *, shared: bool) -> Path:
    """Make a directory on S3 the default remote of `dvc push` and `dvc pull`. No credentials are written.

    Args:
        name: of the remote.
        url: `s3://bucket/prefix`.
        endpoint: URL of a server other than Amazon's.
        shared: write .dvc/config, which git tracks, and not .dvc/config.local, which belongs to this clone.

    Returns:
        The file that was written.

    Raises:
        UsageError: there is no such bucket, access is denied, or an address contains credentials.
        ServiceUnreachable: the server does not answer.
    """
    if endpoint and (not urlsplit(endpoint).hostname or without_credentials(endpoint) != endpoint):
        raise UsageError("--endpoint: expected http(s)://host:port, without credentials.")
    here = root(Path.cwd())
    # An image has no DVC, so its modules are imported only here. boto3, behind `s3`, is slow to import.
    from dvc.config import Config
    from dvc.exceptions import DvcException

    from components.archive import s3

    at = s3.place(url)
    s3.Tree(at).exists()
    settings = {"url": str(at).rstrip("/"), **({"endpointurl": endpoint} if endpoint else {})}
    try:
        with Config(dvc_dir=str(here / ".dvc")).edit("repo" if shared else "local") as config:
            config.setdefault("remote", {})[name] = settings
            config.setdefault("core", {})["remote"] = name
    except DvcException as error:
        raise UsageError(f"{here / '.dvc'}: {error}") from error
    return here / ".dvc" / ("config" if shared else "config.local")
