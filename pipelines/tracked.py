"""Where an archive that DVC tracks lies on S3: an object named by its content, which nobody replaces."""

import importlib.util
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from components.archive import dvc
from components.base.errors import UsageError

_PUSH = "`mura remote s3://...` or `dvc remote add`, then `dvc push`"
# dvc remote's words for what AWS' tools read from the environment.
_SURROUNDINGS = {
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
    """md5 of the content; the object's ETag where the key does not say it. Empty if nobody knows."""
    size: int | None
    source: str
    """What says so: a .dvc file, a dvc.lock, the address itself."""


def locate(archive: str) -> Located:
    """The object on S3 that an archive is.

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
    path = Path(os.path.abspath(archive))  # noqa: PTH100 - `resolve` would follow the link that DVC may have put there
    root = _root(path)
    entry, source = _entry(path, root)
    digest = str(entry.get("md5", ""))
    if digest.endswith(".dir"):
        raise UsageError(
            f"{archive} is a directory for DVC, which has no address on S3. Track the zip: `dvc add MURA-v1.1.zip`."
        )
    if not re.fullmatch(r"[0-9a-f]{32}", digest):
        raise UsageError(
            f"{source}: expected the md5 of {path.name}, found {digest or 'none'}. Run `dvc add` or `dvc repro`."
        )
    # DVC 2 had no `hash` and another layout.
    prefix = "files/md5/" if entry.get("hash") == "md5" else ""
    remote = _remote(root, entry.get("remote"))
    uri = f"{remote}/{prefix}{digest[:2]}/{digest[2:]}"
    size = entry.get("size")
    return Located(uri, digest, size if isinstance(size, int) else None, os.path.relpath(source))


def present(archive: Located) -> Located:
    """The same, if it is there; with its size, and its ETag for a digest if there is no better one.

    Raises:
        UsageError: it is not there, or it is not what DVC says.
        ServiceUnreachable: S3 does not answer.
    """
    from components.archive import s3

    found = s3.Object.find(s3.place(archive.uri))
    if found is None:
        pushed = f" Push it: {_PUSH}." if archive.source != "the address itself" else ""
        raise UsageError(f"{archive.uri}: not there on S3 at {s3.endpoint()}.{pushed}")
    if archive.size is not None and found.size != archive.size:
        raise UsageError(
            f"{archive.uri}: {found.size:,} bytes, {archive.source} says {archive.size:,}. Was it cut "
            "short? Remove it and `dvc push` again."
        )
    return archive._replace(size=found.size, digest=archive.digest or found.version.strip('"'))


def _root(path: Path) -> Path:
    if (root := dvc.find_root(path.parent)) is None:
        raise UsageError(f"{path}: not inside a DVC repository. Name the archive as s3://bucket/key.")
    return root


def _entry(path: Path, root: Path) -> tuple[dict[str, Any], Path]:
    """What DVC has written down of a file, and where."""
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
    """The directory that a stage's paths start from, which its dvc.yaml says and its lock does not."""
    file = folder / "dvc.yaml"
    stages = _yaml(file).get("stages", {}) if file.is_file() else {}
    declared = stages.get(stage.partition("@")[0]) or {}
    return Path(os.path.normpath(folder / (declared.get("do", declared).get("wdir") or ".")))


def _remote(root: Path, name: str | None) -> str:
    """The address of a remote; where it is served, and by whose leave, goes to where AWS' tools look."""
    if importlib.util.find_spec("dvc") is None:
        raise UsageError("DVC is not installed here, and knows where the archive was pushed. `make setup` installs it.")
    from dvc.config import Config
    from dvc.exceptions import DvcException

    try:
        config = Config(dvc_dir=str(root / ".dvc"))
    except DvcException as error:
        raise UsageError(f"{root / '.dvc/config'}: {error}") from error
    name = name or config["core"].get("remote")
    if not name:
        raise UsageError(f"DVC has no default remote, so that a cluster cannot reach the archive. Set one up: {_PUSH}.")
    remote = config["remote"].get(name)
    if remote is None:
        raise UsageError(f"DVC has no remote of the name {name}: `dvc remote list` tells which there are.")
    url = str(remote["url"]).rstrip("/")
    if not url.startswith("s3://"):
        raise UsageError(f"DVC's remote {name} is {url}, which pods cannot read. Set up one on S3: {_PUSH}.")
    if remote.get("version_aware") or remote.get("worktree"):
        raise UsageError(
            f"DVC's remote {name} is version_aware or worktree: its objects are not named by their content. "
            f"Use a plain one: {_PUSH}."
        )
    for key, variable in _SURROUNDINGS.items():
        if remote.get(key):
            os.environ.setdefault(variable, str(remote[key]))
    return url


def _yaml(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: not readable as YAML ({' '.join(str(error).split())}).") from error
    return found if isinstance(found, dict) else {}
