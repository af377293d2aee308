"""The image of `mura serve`: small, restricted, and it answers."""

import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers import STRICT, Image
from miniature import picture, png
from serving import draw_version

from components.signing import keys

MOST_BYTES = 600_000_000
# Asked from inside: the container has no network.
ASK = """
import sys, urllib.request
head = b'--b\\r\\nContent-Disposition: form-data; name="view"; filename="view"\\r\\n\\r\\n'
form = {"Content-Type": "multipart/form-data; boundary=b"}
body = head + sys.stdin.buffer.read() + b'\\r\\n--b--\\r\\n'
print(urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:8080/predict", body, form)).read().decode())
"""


@pytest.fixture(scope="module")
def container(server_image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a container that serves a drawn version."""
    version = draw_version(tmp_path_factory.mktemp("drawn") / "version")
    for folder in (version, *version.parents[:2]):
        folder.chmod(0o755)
    name = f"mura-test-{uuid.uuid4().hex}"
    engine = server_image.engine
    trusted = f"--env={keys.TRUSTED_KEYS}={os.environ[keys.TRUSTED_KEYS]}"
    options = ("--detach", f"--name={name}", *STRICT, trusted, f"--volume={version}:/model:ro")
    subprocess.run([engine, "run", *options, server_image.reference], check=True, capture_output=True)
    try:
        yield name
    finally:
        subprocess.run([engine, "rm", "--force", name], capture_output=True)


def test_it_answers_on_a_read_only_disk_without_rights(server_image: Image, container: str) -> None:
    command = [server_image.engine, "exec", "--interactive", container, "python", "-c", ASK]
    for _ in range(60):
        done = subprocess.run(command, input=png(picture(1)), capture_output=True)
        if done.returncode == 0:
            break
        time.sleep(1)
    assert json.loads(done.stdout)["verdict"] in ("normal", "abnormal"), done.stderr
    whose = subprocess.run([server_image.engine, "exec", container, "id", "-u"], capture_output=True, text=True)
    assert whose.stdout.strip() == "1000"


def test_it_is_small(server_image: Image) -> None:
    assert server_image.about()["Size"] <= MOST_BYTES


@pytest.mark.parametrize(
    "package", ["tensorflow", "keras", "mlflow", "pandas", "pyarrow", "scipy", "matplotlib", "kfp"]
)
def test_what_answers_do_not_need_is_not_in_it(server_image: Image, package: str) -> None:
    assert server_image.run("-c", f"import {package}", program="python").returncode == 1


def test_without_a_version_it_says_what_to_do(server_image: Image) -> None:
    told = server_image.run("serve", "--model", "models:/mura@champion")
    assert (told.returncode, "Run `mura fetch` elsewhere" in told.stderr) == (2, True)


def test_its_user_is_a_number(server_image: Image, tmp_path: Path) -> None:
    about = server_image.about()["Config"]
    assert about["User"] == "1000:1000"
    assert about["Cmd"][:3] == ["serve", "--model", "/model"]
