"""Users of an MLflow server with logins, and what each may do. MLflow's administrator may run it again at any time.

    python -m infra.users ADMIN.env USER.env...

Each file has MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, as infra/secrets.sh and infra/server.py draw them;
MLFLOW_TRACKING_URI comes from the environment. A user named `promoter` may register and promote. Others may read.

A promoter has EDIT, not MANAGE: he writes runs, files, versions and aliases, and deletes none of them. MLflow gives
MANAGE of an experiment or a registered model to who creates it, so the administrator creates them here.
"""

import argparse
import base64
import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parent.parent
EXPERIMENT = {"name": "mura", "tags": [{"key": "mlflow.experimentKind", "value": "custom_model_development"}]}
PROMOTER = "promoter"
MAY = {"experiment": "EDIT", "registered_model": "EDIT"}
"""What the promoter may do with all things of a kind."""


class Login(NamedTuple):
    """A user and his password."""

    user: str
    password: str


def main() -> None:
    """Make the users that files name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("admin", type=Path, help="file with the administrator's login")
    parser.add_argument("users", type=Path, nargs="+", help="files with logins")
    words = parser.parse_args()
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not address.startswith("http"):
        parser.error("set MLFLOW_TRACKING_URI to the server's address")
    try:
        ensure(address, login_of(words.admin), [login_of(file) for file in words.users])
    except RuntimeError as error:
        sys.exit(f"infra.users: {error}")
    print(f"{address} knows {', '.join(login_of(file).user for file in words.users)}")


def login_of(file: Path) -> Login:
    """The login that a file of variables has."""
    values = dict(line.split("=", 1) for line in file.read_text().splitlines() if "=" in line)
    return Login(values["MLFLOW_TRACKING_USERNAME"], values["MLFLOW_TRACKING_PASSWORD"])


def ensure(address: str, admin: Login, users: list[Login]) -> None:
    """Make users with their passwords and permissions, and what they share. What is there already stays.

    Args:
        address: of the server.
        admin: its administrator.
        users: who else may come in.

    Raises:
        RuntimeError: the server refuses something, or does not answer. The message is one line.
    """
    model = yaml.safe_load((ROOT / "params.yaml").read_text())["register"]["model"]
    _ask(address, admin, "2.0/mlflow/experiments/create", EXPERIMENT)
    for name in (model, f"{model}-audit"):
        _ask(address, admin, "2.0/mlflow/registered-models/create", {"name": name})
    for user, password in users:
        login = {"username": user, "password": password}
        if not _ask(address, admin, "2.0/mlflow/users/create", login):
            # Another password than at the last time takes the place of that one.
            _ask(address, admin, "2.0/mlflow/users/update-password", login, "PATCH")
        for kind, permission in MAY.items() if user == PROMOTER else ():
            grant = {"username": user, "resource_type": kind, "resource_id": "*", "permission": permission}
            _ask(address, admin, "3.0/mlflow/users/permissions/grant", grant)


def _ask(address: str, admin: Login, path: str, body: dict[str, Any], method: str = "POST") -> bool:
    """Send a request. False if the thing is there already."""
    known = base64.b64encode(":".join(admin).encode()).decode()
    headers = {"Content-Type": "application/json", "Authorization": f"Basic {known}"}
    request = urllib.request.Request(  # noqa: S310 - an address of our own
        f"{address}/api/{path}", json.dumps(body).encode(), headers, method=method
    )
    try:
        urllib.request.urlopen(request, timeout=120).close()  # noqa: S310
    except urllib.error.HTTPError as error:
        said = error.read().decode(errors="replace")
        if "RESOURCE_ALREADY_EXISTS" in said:
            return False
        # Without the body: it may repeat the password.
        raise RuntimeError(f"MLflow at {address} refused {path} to {admin.user}: HTTP {error.code}") from None
    except OSError as error:
        raise RuntimeError(f"MLflow at {address} does not answer ({error})") from error
    return True


if __name__ == "__main__":
    main()
