"""DVC, asked to keep a file, or told where its remote is."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from components.archive import s3
from components.base.errors import UsageError


def root(folder: Path) -> Path:
    """The repository of DVC that a folder is in.

    Raises:
        UsageError: it is in none, or DVC is not installed.
    """
    if importlib.util.find_spec("dvc") is None:
        raise UsageError("DVC is not installed here. Outside an image, `make setup` installs it.")
    folder = folder.resolve()
    for each in (folder, *folder.parents):
        if (each / ".dvc").is_dir():
            return each
    raise UsageError(f"{folder}: not inside a repository of DVC. Run in the project's directory.")


def add(path: Path) -> str:
    """Put a file under DVC.

    Returns:
        Its md5 as DVC made it.

    Raises:
        UsageError: DVC does not take it, being the output of a stage, or for want of room.
    """
    # In a process of its own: DVC takes over logging and the working directory.
    command = [sys.executable, "-m", "dvc", "add", path.name]
    done = subprocess.run(command, cwd=path.parent, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        why = lines[0].removeprefix("ERROR: ") if lines else f"it ended with {done.returncode}"
        raise UsageError(f"{path}: DVC does not take it: {why}")
    pointer = yaml.safe_load(path.with_name(f"{path.name}.dvc").read_text(encoding="utf-8"))
    return str(pointer["outs"][0]["md5"])


def set_remote(name: str, url: str, endpoint: str | None, *, shared: bool) -> Path:
    """Let a directory on S3 be where `dvc push` and `dvc pull` go; nothing secret is written.

    Args:
        name: of the remote.
        url: `s3://bucket/prefix`.
        endpoint: of a server other than Amazon's.
        shared: whether git is to see it, in .dvc/config; else it is this clone's, in .dvc/config.local.

    Returns:
        The file that says so.

    Raises:
        UsageError: there is no such bucket, the credentials do not do, or an address holds some.
        ServiceUnreachable: the server does not answer.
    """
    if endpoint and (not urlsplit(endpoint).hostname or "@" in urlsplit(endpoint).netloc):
        raise UsageError("--endpoint: expected http(s)://host:port, without credentials.")
    here = root(Path.cwd())
    at = s3.place(url)
    s3.Tree(at).exists()
    from dvc.config import Config
    from dvc.exceptions import DvcException

    settings = {"url": str(at).rstrip("/"), **({"endpointurl": endpoint} if endpoint else {})}
    try:
        with Config(dvc_dir=str(here / ".dvc")).edit("repo" if shared else "local") as config:
            config.setdefault("remote", {})[name] = settings
            config.setdefault("core", {})["remote"] = name
    except DvcException as error:
        raise UsageError(f"{here / '.dvc'}: {error}") from error
    return here / ".dvc" / ("config" if shared else "config.local")
