#!/usr/bin/env bash
# Draws the secrets of the services once, into files that git ignores; those that are there stay: infra/secrets.sh
#
#   data/drawn.env              keys to S3 for people: archives, DVC's remote, overlays
#   s3/drawn.reader.env         for the steps that read the archive
#   s3/drawn.runs.env           for trainings, which keep checkpoints there
#   servers/drawn.mlflow.env    for MLflow, which keeps its files there
#   servers/drawn.keeper.env    for the making of buckets
#   servers/drawn.json          all these keys for SeaweedFS, and what each may do; follows from the others
#   servers/drawn.env           the password of PostgreSQL
set -euo pipefail
cd "$(dirname "$0")/kustomize/secrets"
umask 077

exec "${PYTHON:-python3}" - <<'END'
import fcntl
import json
import os
import secrets
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


def write(file, text):
    """Write a file that is whole or not there."""
    partial = file.with_name(f"{file.name}.partial")
    with partial.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)


def drawn(name, lengths):
    """The values of a file, drawn if there is none. One that lacks a value was left by a command that was interrupted."""
    file = Path(name)
    file.parent.mkdir(exist_ok=True)
    lines = file.read_text().splitlines() if file.exists() else []
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    if not all(values.get(each, "").strip() for each in lengths):
        if lines or file.exists():
            print(f"infra/secrets.sh: {name} lacks a value and is drawn again", file=sys.stderr)
        values = {each: secrets.token_hex(length) for each, length in lengths.items()}
        write(file, "".join(f"{each}={value}\n" for each, value in values.items()))
    return values


def identity(name):
    file, actions = MAY[name]
    values = drawn(file, KEY)
    key = {"accessKey": values["AWS_ACCESS_KEY_ID"], "secretKey": values["AWS_SECRET_ACCESS_KEY"]}
    return {"name": name, "credentials": [key], "actions": actions}


# One at a time: two would draw two passwords.
with Path("servers/kustomization.yaml").open() as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    write(Path("servers/drawn.json"), json.dumps({"identities": [identity(name) for name in MAY]}, indent=2) + "\n")
    drawn("servers/drawn.env", PASSWORD)
END
