"""Servers that tests and benchmarks start: a free port, and the wait until one answers."""

import socket
import subprocess
import time
import urllib.error
import urllib.request


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(url: str, server: "subprocess.Popen[bytes]", seconds: float = 120) -> None:
    """Wait until a server answers, whatever it says.

    Raises:
        RuntimeError: it ended, or did not answer in time.
    """
    deadline = time.monotonic() + seconds
    while server.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"{url}: the server did not start ({' '.join(map(str, server.args))})")
