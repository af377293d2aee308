"""A real MLflow server on this machine, with logins: PostgreSQL for records, S3 for files. `make server` runs it.

    python -m infra.server [--stores] [DIRECTORY]       --stores: without MLflow, to bring a backup back

DIRECTORY/             server/ by default, which git ignores; a second start finds what is there
    passwords.json     drawn once; this and the following files can be read by their owner alone
    admin.env          what to export for each user: address, name, password
    reader.env         may read everything, and write nothing
    promoter.env       may register and promote, and is no administrator
    auth.ini           of MLflow's basic-auth app
    postgres/          PostgreSQL's files, of the user `postgres` where root starts it
    s3/                a directory for each bucket: `mlflow` for models, `mura` for archives and DVC's remote
    *.log              what each of the three says

It needs PostgreSQL of the system (on Debian: apt-get install postgresql). `make setup` installs MLflow and rclone.
Ctrl-C ends all three.
"""

import argparse
import contextlib
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from components.base import urls
from infra import users

HOST = "127.0.0.1"
USERS = ("reader", users.PROMOTER)
BUCKETS = ("mlflow", "mura")
REGION = "us-east-1"
DEBIANS = "/usr/lib/postgresql"
"""Where Debian puts the programs of each version of PostgreSQL."""
PATIENCE = 600.0
"""How long a server may take to start on a busy machine, seconds. One that ends is told at once."""


class Refused(Exception):
    """Something is missing on this machine. The message is one line."""


class Ports(NamedTuple):
    """Where each server listens."""

    mlflow: int = 5000
    s3: int = 9000
    postgres: int = 54320


class Server(NamedTuple):
    """A running server."""

    folder: Path
    ports: Ports

    @property
    def address(self) -> str:
        """Of MLflow."""
        return f"http://{HOST}:{self.ports.mlflow}"

    @property
    def s3(self) -> str:
        """The address of S3."""
        return f"http://{HOST}:{self.ports.s3}"

    def environment(self, user: str) -> dict[str, str]:
        """What to export for a user."""
        lines = (self.folder / f"{user}.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)


def main() -> None:
    """Start everything, and wait until somebody ends it."""
    parser = argparse.ArgumentParser(prog="make server")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("server"))
    parser.add_argument("--stores", action="store_true", help="PostgreSQL and S3 alone")
    words = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with (stores if words.stores else serving)(words.folder.absolute(), Ports()) as server:
            page = urls.mlflow_page(server.address)
            told = "PostgreSQL and S3 run" if words.stores else f"MLflow is at {page}, S3 at {server.s3}"
            print(f"{told}. Ctrl-C ends all. In another terminal one of:\n")
            for user in (*USERS, "admin"):
                print(f"    set -a; source {server.folder / user}.env; set +a")
            print("\nThe reader reads; the promoter registers and promotes.", flush=True)
            _wait_for_the_end(server.folder)
    except (Refused, RuntimeError) as error:
        sys.exit(f"make server: {error}")
    except KeyboardInterrupt:
        print("ended")


def _wait_for_the_end(folder: Path) -> None:
    """Wait for a signal, or for a server to end."""

    def ended(*_: object) -> None:
        raise Refused(f"one of the servers ended by itself. What they said: {folder}/*.log")

    signal.signal(signal.SIGCHLD, ended)
    try:
        while True:
            signal.pause()
    finally:
        # They are ended now, which is no error.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@contextlib.contextmanager
def serving(folder: Path, ports: Ports) -> Iterator[Server]:
    """Run the three servers with their data in a directory. Arguments and errors as `stores`."""
    with stores(folder, ports) as server:
        drawn = _passwords(folder)
        with _mlflow(server, drawn):
            logins = [users.Login(user, drawn[user]) for user in USERS]
            users.ensure(server.address, users.Login("admin", drawn["admin"]), logins)
            yield server


@contextlib.contextmanager
def stores(folder: Path, ports: Ports) -> Iterator[Server]:
    """Run PostgreSQL and S3 with their data in a directory.

    Args:
        folder: made if it is missing.
        ports: where they listen.

    Raises:
        Refused: PostgreSQL is not installed, or a server did not start.
    """
    for name, port in ports._asdict().items():
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                raise Refused(f"another program listens on port {port}, of {name}. Is this server running already?")
    folder.mkdir(parents=True, exist_ok=True)
    drawn = _passwords(folder)
    server = Server(folder, ports)
    _write_settings(server, drawn)
    for bucket in BUCKETS:
        (folder / "s3" / bucket).mkdir(parents=True, exist_ok=True)
    with postgres(folder, ports.postgres, drawn["postgres"]), _s3(server, drawn):
        yield server


@contextlib.contextmanager
def postgres(folder: Path, port: int, password: str) -> Iterator[None]:
    """Run PostgreSQL with a database `mlflow` of a user of that name.

    Args:
        folder: its files are in `postgres` below it.
        port: where it listens.
        password: of the user.

    Raises:
        Refused: it is not installed, or did not start.
    """
    owner = _postgres_user(folder)
    files = folder / "postgres"
    if not files.exists():
        _make_database(files, password, owner)
    command = [_program("postgres"), "-D", str(files), "-p", str(port), "-c", f"listen_addresses={HOST}"]
    # Without a socket: its directory may be missing, and belongs to the system's own server.
    command += ["-c", "unix_socket_directories="]
    with _running(command, folder / "postgres.log", os.environ.copy(), signal.SIGINT, owner) as process:
        _wait(process, folder / "postgres.log", lambda: _connect(port, password))
        yield


def _connect(port: int, password: str) -> bool:
    known: dict[str, Any] = {"host": HOST, "port": port, "user": "mlflow", "password": password}
    try:
        with psycopg.connect(**known, dbname="postgres", autocommit=True, connect_timeout=10) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'mlflow'").fetchone():
                connection.execute("CREATE DATABASE mlflow")
    except psycopg.OperationalError:
        return False
    return True


@contextlib.contextmanager
def _s3(server: Server, drawn: dict[str, str]) -> Iterator[None]:
    command = [_program("rclone"), "serve", "s3", "--addr", f"{HOST}:{server.ports.s3}"]
    # Not 0s: after a write it then looks for changes without pause, with all of a core.
    command += ["--config", str(server.folder / "none.conf"), "--dir-cache-time", "1ms", str(server.folder / "s3")]
    # By the environment: arguments are in every list of processes. In quotes, as a comma parts one pair from the next.
    environment = os.environ | {"RCLONE_AUTH_KEY": f'"{drawn["s3_key"]},{drawn["s3_secret"]}"'}
    log = server.folder / "s3.log"
    with _running(command, log, environment, signal.SIGTERM) as process:
        _wait(process, log, lambda: _answers(server.s3))
        yield


@contextlib.contextmanager
def _mlflow(server: Server, drawn: dict[str, str]) -> Iterator[None]:
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--host", HOST]
    command += ["--port", str(server.ports.mlflow), "--workers", "1", "--artifacts-destination", "s3://mlflow"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AWS_"))}
    environment |= {
        "MLFLOW_BACKEND_STORE_URI": _database(server, drawn),
        "MLFLOW_AUTH_CONFIG_PATH": str(server.folder / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": drawn["admin"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": drawn["flask"],
        "MLFLOW_S3_ENDPOINT_URL": server.s3,
        "AWS_ACCESS_KEY_ID": drawn["s3_key"],
        "AWS_SECRET_ACCESS_KEY": drawn["s3_secret"],
        "AWS_DEFAULT_REGION": REGION,
        # Seven processes and 1.4 GB for evaluations of language models.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    log = server.folder / "mlflow.log"
    with _running(command, log, environment, signal.SIGTERM) as process:
        _wait(process, log, lambda: _answers(f"{server.address}/health"))
        yield


def _passwords(folder: Path) -> dict[str, str]:
    file = folder / "passwords.json"
    if not file.exists():
        names = ("admin", *USERS, "flask", "postgres", "s3_key", "s3_secret")
        _write(file, json.dumps({name: secrets.token_hex(16) for name in names}, indent=2))
    drawn: dict[str, str] = json.loads(file.read_text())
    return drawn


def _database(server: Server, drawn: dict[str, str]) -> str:
    return f"postgresql://mlflow:{drawn['postgres']}@{HOST}:{server.ports.postgres}/mlflow"


def _write_settings(server: Server, drawn: dict[str, str]) -> None:
    # Users are in the same database as runs and versions: one dump has all.
    lines = ("[mlflow]", "default_permission = READ", f"database_uri = {_database(server, drawn)}")
    more = ("admin_username = admin", "authorization_function = mlflow.server.auth:authenticate_request_basic_auth")
    # scrypt takes 0.1 s, and the server asks for it several times a request. A user who is changed or deleted is
    # forgotten at once: there is one worker.
    _write(server.folder / "auth.ini", "\n".join((*lines, *more, "auth_cache_ttl_seconds = 60")) + "\n")
    for user in ("admin", *USERS):
        values = {
            "MLFLOW_TRACKING_URI": server.address,
            "MLFLOW_TRACKING_USERNAME": user,
            "MLFLOW_TRACKING_PASSWORD": drawn[user],
        }
        if user != "reader":
            # For archives and DVC's remote. MLflow's server sends and fetches the files of models itself.
            values |= {
                "AWS_ENDPOINT_URL": server.s3,
                "AWS_ACCESS_KEY_ID": drawn["s3_key"],
                "AWS_SECRET_ACCESS_KEY": drawn["s3_secret"],
                "AWS_DEFAULT_REGION": REGION,
            }
        if user == "admin":
            # As PostgreSQL's own programs read them, to save and to bring back.
            names = {"PGHOST": HOST, "PGPORT": str(server.ports.postgres), "PGUSER": "mlflow", "PGDATABASE": "mlflow"}
            values |= names | {"PGPASSWORD": drawn["postgres"]}
        _write(server.folder / f"{user}.env", "".join(f"{name}={value}\n" for name, value in values.items()))


def _write(file: Path, text: str) -> None:
    """Write a file for its owner alone, whole or not at all."""
    partial = file.with_name(f".{file.name}.partial")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:  # noqa: PTH123
        stream.write(text)
    partial.replace(file)


def _program(name: str) -> str:
    found = _found(name)
    if found is None:
        raise Refused(f"{name} is not found on this machine. On Debian: apt-get install postgresql; else: make setup")
    return found


def _found(name: str) -> str | None:
    newest = sorted(Path(DEBIANS).glob("*/bin"), key=lambda folder: float(folder.parent.name))
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", ""), *map(str, reversed(newest))]
    return shutil.which(name, path=os.pathsep.join(folders))


def _postgres_user(folder: Path) -> str | None:
    """The user that PostgreSQL runs as: this one, but not root, which it refuses."""
    if os.getuid() != 0:
        return None
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        raise Refused(
            "PostgreSQL refuses to run as root, and there is no user postgres. On Debian: apt-get install postgresql"
        ) from None
    for parent in (folder, *folder.parents):
        if not parent.stat().st_mode & 0o001:
            raise Refused(
                f"PostgreSQL runs as the user postgres, who cannot pass through {parent}. Name another directory: "
                "make server SERVER=/srv/mura"
            )
    return "postgres"


def _make_database(files: Path, password: str, owner: str | None) -> None:
    """Make PostgreSQL's files, whole or not at all."""
    work = files.with_name("postgres.partial")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o700)
    with tempfile.NamedTemporaryFile("w", suffix=".password") as file:
        file.write(password)
        file.flush()
        if owner:
            shutil.chown(work, owner)
            shutil.chown(file.name, owner)
        # MLflow's server cannot read a database in SQL_ASCII.
        command = [_program("initdb"), "--pgdata", str(work), "--username=mlflow", f"--pwfile={file.name}"]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"]
        done = subprocess.run(command, **_as(owner), cwd="/", capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"initdb failed: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}")
    work.rename(files)


@contextlib.contextmanager
def _running(
    command: list[str], log: Path, environment: dict[str, str], end: int, owner: str | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program, and end it with a signal."""
    with log.open("ab") as stream:
        # In a session of its own: Ctrl-C reaches this process alone, which ends the servers in their order.
        process = subprocess.Popen(
            command, env=environment, cwd="/", stdout=stream, stderr=stream, start_new_session=True, **_as(owner)
        )
    try:
        yield process
    finally:
        # MLflow's server is two processes. PostgreSQL's others have sessions of their own, and end with the first.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, end)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _as(owner: str | None) -> dict[str, Any]:
    return {"user": owner, "group": owner, "extra_groups": []} if owner else {}


def _wait(process: "subprocess.Popen[bytes]", log: Path, answers: Any) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + PATIENCE
    while not answers():
        if process.poll() is not None or time.monotonic() > deadline:
            raise Refused(f"{Path(process.args[0]).name} did not start: {log} says why")  # type: ignore[index]
        time.sleep(0.2)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=10).close()  # noqa: S310 - an address of our own
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
