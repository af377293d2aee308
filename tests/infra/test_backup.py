"""A server with PostgreSQL and S3 is saved, removed and brought back by the commands of docs/backup.md."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from decided import ALIAS, put
from servers import free_port

from components.artifacts.evaluation import Evaluation
from components.artifacts.registration import RegisteredModel
from components.artifacts.trained_model import TrackedRun, TrainedModel
from components.tracking import audit, model_registry
from infra import server

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/backup.md").read_text()
# Two starts of MLflow's server, on cores that other tests use too.
pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]


def blocks(heading: str) -> list[str]:
    """The commands below a heading of the page, block by block."""
    section = re.split(r"^## ", PAGE.partition(f"\n## {heading}\n")[2], maxsplit=1, flags=re.M)[0]
    return [re.sub(r"^ {4}", "", block, flags=re.M) for block in re.findall(r"(?:^ {4}.*\n)+", section, re.M)]


@pytest.fixture
def place(no_mlflow: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout that the user of PostgreSQL may pass through, and in which one stands."""
    folder = Path(tempfile.mkdtemp(prefix="mura-backup-"))
    folder.chmod(0o711)
    for name in [name for name in os.environ if name.startswith(("AWS_", "PG", "RCLONE_"))]:
        no_mlflow.delenv(name)
    no_mlflow.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    no_mlflow.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")
    for name in ("backup", "safe"):
        (folder / name).mkdir()
        no_mlflow.setenv(name.upper(), str(folder / name))
    shutil.copy(ROOT / "params.yaml", folder)
    no_mlflow.chdir(folder)
    yield folder
    shutil.rmtree(folder)


def run(*commands: str) -> None:
    """Run commands as a person types them, and stop at the first that fails."""
    done = subprocess.run(["bash", "-euc", "\n".join(commands)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def be(user: str, running: server.Server, patch: pytest.MonkeyPatch) -> None:
    for name, value in running.environment(user).items():
        patch.setenv(name, value)


@pytest.mark.longest
def test_what_was_saved_is_brought_back(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
    register_hollow: Callable[..., RegisteredModel],
) -> None:
    ports = server.Ports(free_port(), free_port(), free_port())
    archive = place / "archive.bin"
    archive.write_bytes(b"pictures")
    with server.serving(place / "server", ports) as running:
        be("promoter", running, monkeypatch)
        model = make_model("vgg16")
        version = register_hollow("mura", model, make_evaluation(model, test_digest="7e" * 32), make_tracked())
        decided = put(version, reason="the first")
        assert decided.decision.outcome == "promoted"
        run("dvc init --quiet --no-scm", "dvc remote add --quiet --default store s3://mura/dvc")
        run("dvc add --quiet archive.bin", "dvc push --quiet")
        run(*blocks("Save"))
    assert {path.name for path in (place / "backup").iterdir()} == {"mlflow.dump", "mlflow", "mura"}
    for lost in (place / "server", place / ".dvc/cache"):
        shutil.rmtree(lost)
    archive.unlink()

    passwords, stores, looks = blocks("Bring back")
    run(passwords)
    with server.stores(place / "server", ports):
        run(stores)
    with server.serving(place / "server", ports) as running:
        be("reader", running, monkeypatch)
        assert model_registry.champion("mura", ALIAS) == version
        assert audit.look("mura").whole().entries == (decided.entry,)
        be("promoter", running, monkeypatch)
        run(looks)
    assert archive.read_bytes() == b"pictures"


def test_the_page_does_not_tell_passwords_to_the_list_of_processes() -> None:
    typed = "".join((*blocks("Save"), *blocks("Bring back")))
    assert "pg_dump" in typed
    assert not re.search(r"--password|postgresql://|SECRET", typed)
