"""Keys and passwords: drawn whole, each for its own use, and told to nobody else."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from seaweedfs_rules import NEEDS, may, the

from components.base.step import STEPS
from components.params.document import read_params
from components.signing import directory, keys

# Long, as the script needs openssl.
pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
# By the name under which a place of the cluster or of the laptop has it: the file that `infra/secrets.sh` draws.
SECRETS = {
    "mura-data": "s3/drawn.reader.env",
    "mura-s3": "s3/drawn.runs.env",
    "mura-s3-mlflow": "servers/drawn.mlflow.env",
    "mura-s3-keeper": "servers/drawn.keeper.env",
}
PEOPLE = "data/drawn.env"
# By user: the file with the login.
LOGINS = {
    "admin": "data/drawn.admin.env",
    "promoter": "runs/drawn.promoter.env",
    "reader": "servers/drawn.reader.env",
}
FLASK = "servers/drawn.flask.env"
READING = ("GetObject", "HeadObject", "ListObjects")
ARCHIVE, OVERLAY, CHECKPOINT = "dvc/files/md5/ab/cd", "overlays/1.csv", "checkpoints/ab/state.json"


def draw(folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    command = [str(folder / "infra" / "secrets.sh")]
    return subprocess.run(command, env={"PATH": path} | environment, capture_output=True, text=True)


def copied(folder: Path) -> Path:
    shutil.copytree(ROOT / "infra", folder / "infra", ignore=shutil.ignore_patterns("drawn.*", "data"))
    return folder


def values(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text().splitlines())


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("drawn.*"))}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the secrets, drawn."""
    folder = copied(tmp_path_factory.mktemp("drawn"))
    assert draw(folder).returncode == 0
    return folder / "infra" / "kustomize" / "secrets"


@pytest.fixture(scope="module")
def identities(place: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((place / "servers/drawn.json").read_text())["identities"]
    return found


def whose(place: Path, identities: list[dict[str, Any]], file: str) -> dict[str, Any]:
    found = values(place / file)
    identity = the(identities, found["AWS_ACCESS_KEY_ID"])
    assert [found["AWS_SECRET_ACCESS_KEY"]] == [key["secretKey"] for key in identity["credentials"]]
    return identity


def test_every_place_has_a_key_of_its_own(place: Path, identities: list[dict[str, Any]]) -> None:
    found = [values(place / file) for file in (*SECRETS.values(), PEOPLE)]
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert len({each[name] for each in found}) == len(found) == len(identities)


@pytest.mark.parametrize(
    ("file", "allowed"),
    [
        (
            PEOPLE,
            {("mura", key, request) for key in (ARCHIVE, OVERLAY, CHECKPOINT) for request in NEEDS},
        ),
        (
            SECRETS["mura-data"],
            {("mura", key, each) for key in (ARCHIVE, OVERLAY, CHECKPOINT) for each in READING},
        ),
        (
            SECRETS["mura-s3"],
            {("mura", CHECKPOINT, each) for each in NEEDS if each != "ListObjects"},
        ),
        (SECRETS["mura-s3-mlflow"], {("mlflow", "1/models/m/artifacts/x", each) for each in NEEDS}),
    ],
)  # fmt: skip
def test_a_key_does_what_is_needed_and_nothing_else(
    place: Path, identities: list[dict[str, Any]], file: str, allowed: set[tuple[str, str, str]]
) -> None:
    identity = whose(place, identities, file)
    keys = [("mura", key) for key in (ARCHIVE, OVERLAY, CHECKPOINT)]
    keys += [("mlflow", "1/models/m/artifacts/x"), ("other", "x"), ("mura-2", CHECKPOINT), ("mlflow2", "x")]
    seen = {(bucket, key, each) for bucket, key in keys for each in NEEDS if may(identity, each, bucket, key)}
    assert seen == {each for each in allowed if NEEDS[each[2]] != "Admin"}


def test_only_the_keeper_makes_buckets(place: Path, identities: list[dict[str, Any]]) -> None:
    makers = [each for each in identities if may(each, "CreateBucket", "mura") or may(each, "CreateBucket", "mlflow")]
    assert makers == [whose(place, identities, SECRETS["mura-s3-keeper"])]


def containers(manifests: list[dict[str, Any]]) -> Iterator[tuple[str, set[str]]]:
    """Containers of the manifests, and the secrets that each gets."""
    for each in manifests:
        if each["kind"] in ("Deployment", "StatefulSet"):
            pod = each["spec"]["template"]["spec"]
            for container in (*pod.get("initContainers", ()), *pod["containers"]):
                yield container["name"], set(re.findall(r"'name': '(mura-[^']*)'", str(container)))


@pytest.mark.parametrize("overlay", ["kind", "cluster"])
def test_a_container_has_the_key_of_its_work(place: Path, overlay: str) -> None:
    folder = place.parents[1]
    shutil.copy(ROOT / "params.yaml", folder.parent)
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    words = [str(folder / "render.sh"), overlay, "registry.example/mura:cpu-1"]
    text = subprocess.run(words, env={"PATH": path}, check=True, capture_output=True, text=True).stdout
    manifests = list(yaml.safe_load_all(text))
    assert dict(containers(manifests)) == {
        "buckets": {"mura-s3-keeper"},
        "mlflow": {"mura-s3-mlflow", "mura-postgres", "mura-mlflow-auth"},
        "postgres": {"mura-postgres"},
        "seaweedfs": set(),
    }
    spaces: dict[str, set[str]] = {}
    for each in manifests:
        if each["kind"] == "Secret":
            spaces.setdefault(each["metadata"]["namespace"], set()).add(each["metadata"]["name"])
    servers = spaces.pop("mura")
    stores = {"mura-s3-server", "mura-s3-mlflow", "mura-s3-keeper", "mura-postgres"}
    assert servers == stores | {"mura-mlflow-auth", "mura-mlflow-reader"}
    # Where steps run, nobody can read the keys of the servers.
    assert list(spaces.values()) == [{"mura-data", "mura-s3", "mura-mlflow", "mura-signing"}]


def test_the_administrators_password_is_in_the_servers_settings_alone(place: Path) -> None:
    password = values(place / LOGINS["admin"])["MLFLOW_TRACKING_PASSWORD"]
    having = [name for name, text in files(place).items() if password in text]
    assert having == [LOGINS["admin"], "servers/drawn.auth.ini"]


def test_every_user_has_a_login_of_his_own(place: Path) -> None:
    logins = {user: values(place / file) for user, file in LOGINS.items()}
    assert {user: login["MLFLOW_TRACKING_USERNAME"] for user, login in logins.items()} == {
        user: user for user in LOGINS
    }
    assert len({login["MLFLOW_TRACKING_PASSWORD"] for login in logins.values()}) == len(LOGINS)


def test_what_a_run_signs_is_believed_by_those_who_have_the_public_key(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(keys.SIGNING_KEY, (place / "runs/drawn.pem").read_text())
    monkeypatch.setenv(keys.TRUSTED_KEYS, (place / "servers/drawn.pub").read_text())
    (tmp_path / "file").write_text("content")
    signed = directory.sign(tmp_path)
    assert directory.verify(tmp_path) == signed
    assert (place / "runs/drawn.pub").read_text() == (place / "servers/drawn.pub").read_text()


def test_a_key_of_ones_own_stays_and_half_of_one_is_drawn_again(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    place = folder / "infra/kustomize/secrets"
    (place / "runs").mkdir(exist_ok=True)
    (place / "runs/drawn.pem").write_text("")
    assert draw(folder).returncode == 0
    made = files(place)
    assert "PRIVATE KEY" in made["runs/drawn.pem"]
    (place / "runs/drawn.pub").unlink()
    assert draw(folder).returncode == 0
    assert files(place) == made


def test_a_laptop_gives_each_server_the_same(place: Path) -> None:
    services = yaml.safe_load((ROOT / "infra/compose.yaml").read_text())["services"]
    given = {
        name: [service["env_file"]] if isinstance(service["env_file"], str) else service["env_file"]
        for name, service in services.items()
        if "env_file" in service
    }
    begin = "kustomize/secrets/"
    assert given == {
        "buckets": [f"{begin}{SECRETS['mura-s3-keeper']}"],
        "mlflow": [
            f"{begin}{SECRETS['mura-s3-mlflow']}",
            f"{begin}servers/drawn.env",
            f"{begin}{FLASK}",
            f"{begin}{LOGINS['admin']}",
        ],
        "postgres": [f"{begin}servers/drawn.env"],
    }
    assert all((place.parents[1] / file).is_file() for each in given.values() for file in each)


@pytest.mark.parametrize("params", ["params.yaml", "params.mura.yaml"])
def test_a_step_gets_the_key_of_its_work(params: str) -> None:
    sources = [each for each in read_params(ROOT / params).kubeflow.environment if "AWS_ACCESS_KEY_ID" in each.keys]
    given = {step: [each.name for each in sources if each.is_for(step)] for step in (*STEPS, "notify")}
    reading = {step: ["mura-data"] for step in ("ingest", "validate", "shard")}
    writing = {step: ["mura-s3"] for step in ("train", "register", "promote")}
    assert given == reading | writing | {"evaluate": [], "ensemble": [], "notify": []}


@pytest.mark.parametrize("params", ["params.yaml", "params.mura.yaml"])
def test_only_those_who_sign_get_the_key(params: str) -> None:
    sources = read_params(ROOT / params).kubeflow.environment
    for key in (keys.SIGNING_KEY, keys.TRUSTED_KEYS):
        assert [step for step in (*STEPS, "notify") for each in sources if key in each.keys and each.is_for(step)] == [
            "register",
            "promote",
        ]


@pytest.mark.parametrize("left", ["", "\n", "POSTGRES_PASSWORD=\n", "POSTGRES_PASSWORD", "AWS_ACCESS_KEY_ID=abc\n"])
@pytest.mark.parametrize("file", ["servers/drawn.env", FLASK, *LOGINS.values(), *SECRETS.values(), PEOPLE])
def test_what_an_interrupted_command_left_is_drawn_again(tmp_path: Path, file: str, left: str) -> None:
    folder = copied(tmp_path)
    secrets = folder / "infra/kustomize/secrets"
    (secrets / file).parent.mkdir(exist_ok=True)
    (secrets / file).write_text(left)
    done = draw(folder)
    assert done.returncode == 0
    assert f"{file} lacks a value and is drawn again" in done.stderr
    drawn = {name: value for name, value in values(secrets / file).items() if name != "MLFLOW_TRACKING_USERNAME"}
    assert drawn
    assert all(len(value) >= 20 for value in drawn.values())


def test_a_value_of_ones_own_stays(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    file = folder / "infra/kustomize/secrets/servers/drawn.env"
    file.write_text("POSTGRES_PASSWORD=mine\n")
    assert draw(folder).returncode == 0
    assert file.read_text() == "POSTGRES_PASSWORD=mine\n"


def test_interrupted_anywhere_it_leaves_no_empty_value_and_the_next_one_completes_it(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    secrets = folder / "infra/kustomize/secrets"
    # In the place of Python, one that is killed at a change of the file system: the first, the second, and so on.
    interrupted, fake = tmp_path / "interrupted.py", tmp_path / "python"
    interrupted.write_text(
        "import os, sys\n"
        "count = 0\n"
        "def hook(event, _):\n"
        "    global count\n"
        "    count += event in ('os.rename', 'os.mkdir', 'os.remove') or event == 'open' and 'drawn' in str(_[0])\n"
        "    if count > int(os.environ['LAST']):\n"
        "        os.kill(os.getpid(), 9)\n"
        "sys.addaudithook(hook)\n"
        "exec(sys.stdin.read())\n"
    )
    # A path after #! ends at its first space.
    fake.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{interrupted}" "$@"\n')
    fake.chmod(0o755)
    before: dict[str, str] = {}
    for last in range(100):
        done = draw(folder, PYTHON=str(fake), LAST=str(last))
        there = {name: text for name, text in files(secrets).items() if name.endswith(".env")}
        for name, text in there.items():
            assert text.endswith("\n")
            assert all(value for value in values(secrets / name).values())
            # What is there stays.
            assert before.get(name, text) == text
        before = there
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stderr
    assert len(before) == 10


def test_of_many_at_once_all_have_the_same(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    secrets = folder / "infra/kustomize/secrets"
    (secrets / "servers/drawn.env").write_text("")
    command = [str(folder / "infra" / "secrets.sh")]
    many = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(4)]
    seen = [each.wait() for each in many]
    assert seen == [0, 0, 0, 0]
    first = files(secrets)
    assert draw(folder).returncode == 0
    assert files(secrets) == first


def test_only_the_owner_may_read_them(place: Path) -> None:
    assert {path.name: path.stat().st_mode & 0o077 for path in place.rglob("drawn.*")} == dict.fromkeys(
        (path.name for path in place.rglob("drawn.*")), 0
    )
    ignored = [f"infra/kustomize/secrets/{path.relative_to(place)}" for path in place.rglob("drawn.*")]
    ignored += [f"{name}.partial" for name in ignored]
    told = subprocess.run(["git", "-C", str(ROOT), "check-ignore", *ignored], capture_output=True, text=True)
    assert told.stdout.split() == ignored


def test_what_is_installed_is_checked_by_its_hash(tmp_path: Path) -> None:
    """The commands of `make setup` on a machine without uv, as make would run them."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    for hardware in ("cpu", "gpu"):
        words = ["make", "--dry-run", "setup", f"HARDWARE={hardware}"]
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "USER": "me"}
        told = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
        installing = [line for line in told.splitlines() if re.search(r"\b(pip|uv)\b.*\b(install|sync)\b", line)]
        assert len(installing) == 3
        for line in installing:
            assert "--require-hashes" in line or "--build-constraints requirements/build.txt --editable ." in line
    assert "--hash=sha256:" in re.search(r"^uv==.*(\n .*)+", (ROOT / "requirements/build.txt").read_text(), re.M)[0]  # type: ignore[index]
