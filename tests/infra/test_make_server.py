"""What `make server` refuses before it starts anything. That it works: test_backup.py."""

import os
import socket
from pathlib import Path

import pytest

from infra import server, users


def test_a_port_that_is_taken_is_told_before_anything_is_made(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = server.Ports(taken.getsockname()[1], 1, 1)
        with pytest.raises(server.Refused, match="listens on port"), server.serving(tmp_path / "server", ports):
            pass
    assert not (tmp_path / "server").exists()


# Long, as it needs Debian's PostgreSQL.
@pytest.mark.long
def test_where_postgresql_cannot_start_the_reason_is_told_and_secrets_are_their_owner_s_alone(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    folder = tmp_path / "closed" / "server"
    # No database, and with root, whose server runs as the user postgres, out of reach besides.
    (folder / "postgres").mkdir(parents=True)
    reason = "cannot pass through" if os.getuid() == 0 else "postgres did not start"
    for _ in range(2):
        with pytest.raises(server.Refused, match=reason), server.serving(folder, server.Ports(1, 2, 3)):
            pass
    files = {path.name: path for path in folder.iterdir() if path.is_file() and path.suffix != ".log"}
    assert set(files) == {"passwords.json", "auth.ini", "admin.env", "reader.env", "promoter.env"}
    assert {path.stat().st_mode & 0o077 for path in files.values()} == {0}
    # Who reads models reads them from MLflow, and needs no key of its store.
    assert "AWS" not in files["reader.env"].read_text()
    assert users.login_of(files["promoter.env"]).user == "promoter"
