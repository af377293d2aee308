#!/usr/bin/env bash
# Draws the secrets of the services once, into files that git ignores; those that are there stay: infra/secrets.sh
#
#   data/drawn.env              keys to S3 for people: archives, DVC's remote, overlays
#   data/drawn.admin.env        the login of MLflow's administrator
#   runs/drawn.promoter.env     a login that may register and promote: for the steps, and for people who do so
#   runs/drawn.pem              the key that signs what is registered
#   runs/drawn.pub              its public key, which those need who use a model; follows from it
#   s3/drawn.reader.env         for the steps that read the archive
#   s3/drawn.runs.env           for trainings, which keep checkpoints there
#   servers/drawn.mlflow.env    for MLflow, which keeps its files there
#   servers/drawn.keeper.env    for the making of buckets
#   servers/drawn.json          all these keys for SeaweedFS, and what each may do; follows from the others
#   servers/drawn.env           the password of PostgreSQL
#   servers/drawn.flask.env     signs the cookies of MLflow's pages
#   servers/drawn.auth.ini      where MLflow keeps its users, and its administrator; follows from the others
#   servers/drawn.reader.env    a login that may read: for the server of the champion
#   servers/drawn.pub           runs/drawn.pub once more
set -euo pipefail
cd "$(dirname "$0")/kustomize/secrets"
umask 077

exec "${PYTHON:-python3}" - <<'END'
import fcntl
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

# https://github.com/seaweedfs/seaweedfs/wiki/Amazon-S3-API: an action, and the bucket or the beginning of keys it is for.
MAY = {
    "data": ("data/drawn.env", ["Read:mura", "Write:mura", "List:mura"]),
    "reader": ("s3/drawn.reader.env", ["Read:mura", "List:mura"]),
    "runs": ("s3/drawn.runs.env", ["Read:mura/checkpoints/*", "Write:mura/checkpoints/*"]),
    "mlflow": ("servers/drawn.mlflow.env", ["Read:mlflow", "Write:mlflow", "List:mlflow"]),
    "keeper": ("servers/drawn.keeper.env", ["Admin"]),
}
KEY = {"AWS_ACCESS_KEY_ID": 10, "AWS_SECRET_ACCESS_KEY": 24}  # bytes
PASSWORD = {"POSTGRES_PASSWORD": 24}
FLASK = {"MLFLOW_FLASK_SERVER_SECRET_KEY": 24}
LOGINS = {"admin": "data/drawn.admin.env", "promoter": "runs/drawn.promoter.env", "reader": "servers/drawn.reader.env"}


def write(file, text):
    """Write a file that is whole or not there."""
    partial = file.with_name(f"{file.name}.partial")
    with partial.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)


def drawn(name, lengths, said=()):
    """The values of a file, drawn if there is none. One that lacks a value was left by a command that was interrupted."""
    file = Path(name)
    file.parent.mkdir(exist_ok=True)
    lines = file.read_text().splitlines() if file.exists() else []
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    if not all(values.get(each, "").strip() for each in (*lengths, *said)):
        if lines or file.exists():
            print(f"infra/secrets.sh: {name} lacks a value and is drawn again", file=sys.stderr)
        values = dict(said) | {each: secrets.token_hex(length) for each, length in lengths.items()}
        write(file, "".join(f"{each}={value}\n" for each, value in values.items()))
    return values


def identity(name):
    file, actions = MAY[name]
    values = drawn(file, KEY)
    key = {"accessKey": values["AWS_ACCESS_KEY_ID"], "secretKey": values["AWS_SECRET_ACCESS_KEY"]}
    return {"name": name, "credentials": [key], "actions": actions}


def login(user):
    said = {"MLFLOW_TRACKING_USERNAME": user}
    return drawn(LOGINS[user], {"MLFLOW_TRACKING_PASSWORD": 24}, said)["MLFLOW_TRACKING_PASSWORD"]


def sign():
    """Draw a pair of keys as `mura keys` does, if there is none."""
    private = Path("runs/drawn.pem")
    if not private.exists() or "PRIVATE KEY" not in private.read_text():
        write(private, openssl(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1"]))
    public = openssl(["pkey", "-in", str(private), "-pubout"])
    for file in ("runs/drawn.pub", "servers/drawn.pub"):
        write(Path(file), public)


def openssl(words):
    try:
        done = subprocess.run(["openssl", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    except FileNotFoundError:
        sys.exit("infra/secrets.sh draws a key that signs models and needs openssl. On Debian: apt-get install openssl")
    if done.returncode:
        sys.exit(f"infra/secrets.sh: openssl {words[0]} failed: {done.stderr.strip()}")
    return done.stdout


# One at a time: two would draw two passwords.
with Path("servers/kustomization.yaml").open() as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    write(Path("servers/drawn.json"), json.dumps({"identities": [identity(name) for name in MAY]}, indent=2) + "\n")
    password = drawn("servers/drawn.env", PASSWORD)["POSTGRES_PASSWORD"]
    drawn("servers/drawn.flask.env", FLASK)
    admin = [login(user) for user in LOGINS][0]
    lines = [
        "[mlflow]",
        "default_permission = READ",
        # Users are in the same database as runs and versions: one dump has all.
        f"database_uri = postgresql://mlflow:{password}@postgres:5432/mlflow",
        "admin_username = admin",
        f"admin_password = {admin}",
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth",
        # scrypt takes 0.1 s, and the server asks for it several times a request.
        "auth_cache_ttl_seconds = 60",
    ]
    write(Path("servers/drawn.auth.ini"), "\n".join(lines) + "\n")
    sign()
END
