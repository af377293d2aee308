"""The address on S3 of an archive that DVC tracks. The object is named by its content: nobody replaces it."""

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from components.archive import dvc
from components.base import documents
from components.base.errors import UsageError
from components.base.urls import S3_SCHEME

_PUSH = "`mura remote s3://...` or `dvc remote add`, then `dvc push`"
# The settings of a DVC remote, and the variables of AWS' tools for the same.
_VARIABLES = {
    "endpointurl": "AWS_ENDPOINT_URL",
    "profile": "AWS_PROFILE",
    "region": "AWS_DEFAULT_REGION",
    "access_key_id": "AWS_ACCESS_KEY_ID",
    "secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
}


class Located(NamedTuple):
    """An archive on S3."""

    uri: str
    digest: str
    """md5 of the content, or the object's ETag; empty if unknown."""
    size: int | None
    source: str
    """Where the address is from: a .dvc file, a dvc.lock, or the address itself."""
    name: str = ""
    """What people call it: the name of the tracked file. Empty if the address is all that is known."""


def demand_reachable(archive: str) -> None:
    """Check that pods can read the archive at an address.

    Raises:
        UsageError: it is a path of this machine, or no address on S3.
    """
    if not archive.startswith(S3_SCHEME):
        raise UsageError(
            f"archive {archive}: pods cannot read a file of this machine. Name it as s3://bucket/key. One that DVC "
            "tracks and `dvc push` stored is found by `mura pipeline submit`; `mura pipeline run-local` reads files."
        )


def locate(archive: str) -> Located:
    """Find the address of an archive on S3. No request is sent.

    Args:
        archive: `s3://bucket/key`, or the path of a file that DVC tracks by a .dvc file or a stage.

    Raises:
        UsageError: DVC does not track it, tracks a directory, or has no remote on S3 for it.
    """
    if "://" in archive:
        if not archive.startswith("s3://"):
            raise UsageError(f"{archive}: expected s3://bucket/key, or a file that DVC tracks.")
        found = re.search(r"/files/md5/([0-9a-f]{2})/([0-9a-f]{30})$", archive)
        return Located(archive, found[1] + found[2] if found else "", None, "the address itself")
    path = Path(os.path.abspath(archive))  # noqa: PTH100 - the file may be a link that DVC made; `resolve` would follow it
    root = dvc.root(path.parent)
    entry, source = _entry(path, root)
    digest = str(entry.get("md5", ""))
    if digest.endswith(".dir"):
        raise UsageError(
            f"{archive} is a directory for DVC, and has no address on S3. Track the zip: `dvc add MURA-v1.1.zip`."
        )
    if not re.fullmatch(r"[0-9a-f]{32}", digest):
        raise UsageError(
            f"{source}: expected the md5 of {path.name}, found {digest or 'none'}. Run `dvc add` or `dvc repro`."
        )
    # Files of DVC 2 have no `hash`, and lie elsewhere on the remote.
    prefix = "files/md5/" if entry.get("hash") == "md5" else ""
    remote = _remote(root, entry.get("remote"))
    uri = f"{remote}/{prefix}{digest[:2]}/{digest[2:]}"
    size = entry.get("size")
    return Located(uri, digest, size if isinstance(size, int) else None, os.path.relpath(source), path.name)


def present(archive: Located) -> Located:
    """Check that the object exists; add its size, and its ETag if there is no md5.

    Raises:
        UsageError: there is no such object, or its size is another than DVC's.
        ServiceUnreachable: S3 does not answer.
    """
    # boto3, behind `s3`, is slow to import, and `mura pipeline --help` imports this module.
    from components.archive import s3

    found = s3.Object.find(s3.place(archive.uri))
    if found is None:
        pushed = f" Push it: {_PUSH}." if archive.source != "the address itself" else ""
        raise UsageError(f"{archive.uri}: not there on S3 at {s3.endpoint()}.{pushed}")
    if archive.size is not None and found.size != archive.size:
        raise UsageError(
            f"{archive.uri}: {found.size:,} bytes, {archive.source} says {archive.size:,}. The upload may be "
            "incomplete: remove the object and `dvc push` again."
        )
    return archive._replace(size=found.size, digest=archive.digest or found.version.strip('"'))


def _entry(path: Path, root: Path) -> tuple[dict[str, Any], Path]:
    """DVC's entry for a file, and the file that contains it."""
    pointer = path.with_name(path.name + ".dvc")
    if pointer.is_file():
        for out in _yaml(pointer).get("outs", ()):
            return out, pointer
    for folder in (path.parent, *path.parent.parents):
        lock = folder / "dvc.lock"
        for name, stage in (_yaml(lock).get("stages", {}) if lock.is_file() else {}).items():
            for out in stage.get("outs", ()):
                if _working(folder, name) / out["path"] == path:
                    return out, lock
        if folder == root:
            break
    raise UsageError(
        f"{os.path.relpath(path)}: DVC does not track it (no {pointer.name}, no dvc.lock with it). Run `mura import`, "
        "or for the drawn archive `dvc repro data/dvc.yaml`; or name it as s3://bucket/key."
    )


def _working(folder: Path, stage: str) -> Path:
    """The directory that a stage's paths start from. Only its dvc.yaml says it, not its lock."""
    file = folder / "dvc.yaml"
    stages = _yaml(file).get("stages", {}) if file.is_file() else {}
    declared = stages.get(stage.partition("@")[0]) or {}
    return Path(os.path.normpath(folder / (declared.get("do", declared).get("wdir") or ".")))


def _remote(root: Path, name: str | None) -> str:
    """Return the URL of a remote; export its endpoint and credentials as AWS_* variables."""
    # DVC is optional, and slow to import.
    from dvc.config import Config
    from dvc.exceptions import DvcException

    try:
        config = Config(dvc_dir=str(root / ".dvc"))
    except DvcException as error:
        raise UsageError(f"{root / '.dvc/config'}: {error}") from error
    name = name or config["core"].get("remote")
    if not name:
        raise UsageError(
            f"DVC has no default remote, and a cluster cannot reach the archive without. Set one up: {_PUSH}."
        )
    remote = config["remote"].get(name)
    if remote is None:
        raise UsageError(f"DVC has no remote of the name {name}. `dvc remote list` shows the remotes.")
    url = str(remote["url"]).rstrip("/")
    if not url.startswith("s3://"):
        raise UsageError(f"DVC's remote {name} is {url}, which pods cannot read. Set up one on S3: {_PUSH}.")
    if remote.get("version_aware") or remote.get("worktree"):
        raise UsageError(
            f"DVC's remote {name} is version_aware or worktree: its objects are not named by their content. "
            f"Use a plain one: {_PUSH}."
        )
    for key, variable in _VARIABLES.items():
        if remote.get(key):
            os.environ.setdefault(variable, str(remote[key]))
    return url


def _yaml(path: Path) -> dict[str, Any]:
    try:
        found = documents.yaml_of(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: not readable as YAML ({' '.join(str(error).split())}).") from error
    return found if isinstance(found, dict) else {}
