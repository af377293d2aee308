"""The workers of a training wait for each other, and not without limit.

TensorFlow waits for them in its own code, an hour or for ever, where no exception and no signal reaches it. So the
workers meet here first, at the chief's address, which TensorFlow then takes over.
"""

import os
import socket
import time

from components.base.errors import ServiceUnreachable, UsageError
from components.base.progress import duration
from components.base.variables import MEETING_SECONDS

GO = b"go"
PATIENCE = 1800.0
# Between two attempts to reach a chief that has not started.
PAUSE = 0.5


def seconds() -> float:
    """How long a worker waits for the others.

    Raises:
        UsageError: MURA_MEETING_SECONDS is no positive number.
    """
    text = os.environ.get(MEETING_SECONDS)
    try:
        wanted = float(text) if text else PATIENCE
    except ValueError:
        wanted = 0.0
    if not 0 < wanted < 1e8:
        raise UsageError(f"{MEETING_SECONDS}: expected a number of seconds, found {text}.")
    return wanted


def meet(rank: int, addresses: list[str], patience: float) -> None:
    """Return when all workers are there.

    Args:
        rank: of this worker; 0 is the chief.
        addresses: host:port of each worker, in the order of their ranks.
        patience: seconds.

    Raises:
        ServiceUnreachable: a worker is missing after so many seconds, or the chief's port is taken.
    """
    deadline = time.monotonic() + patience
    host, _, port = addresses[0].rpartition(":")
    missing = _gather(int(port), set(range(1, len(addresses))), deadline) if rank == 0 else {0}
    while rank and missing and time.monotonic() < deadline:
        missing = set() if _ask(host.strip("[]"), int(port), rank, deadline) else missing
    if missing:
        named = ", ".join(f"{each} ({addresses[each]})" for each in sorted(missing))
        raise ServiceUnreachable(
            f"train: worker {named} has not come within {duration(patience)}; its own log says why. Start all of them "
            f"again. {MEETING_SECONDS} is how long they wait."
        )


def _gather(port: int, missing: set[int], deadline: float) -> set[int]:
    """As the chief, wait for the others and let them go on together. Return who has not come."""
    there: dict[int, socket.socket] = {}
    try:
        with _listening(port) as server:
            while missing - set(there) and (left := deadline - time.monotonic()) > 0:
                server.settimeout(left)
                try:
                    guest, _ = server.accept()
                except TimeoutError:
                    break
                rank = _rank_of(guest)
                if rank not in missing:
                    guest.close()
                    continue
                if rank in there:  # it was started again
                    there[rank].close()
                there[rank] = guest
        late = missing - set(there)
        for guest in there.values() if not late else ():
            guest.sendall(GO)
            guest.recv(1)  # the worker hangs up first, so that the port is free at once
    except OSError as error:
        raise ServiceUnreachable(f"train: port {port} of this worker: {error.strerror}.") from error
    finally:
        for guest in there.values():
            guest.close()
    return late


def _rank_of(guest: socket.socket) -> int:
    """The rank that a guest says; -1 for a probe of the cluster, or a worker that left at once."""
    guest.settimeout(5)
    try:
        return int(guest.recv(20))
    except (OSError, ValueError):
        return -1


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    except (OSError, ValueError):
        return socket.create_server(("", port))


def _ask(host: str, port: int, rank: int, deadline: float) -> bool:
    """As another worker, wait for the chief's word. False: it has not started, or has ended."""
    try:
        with socket.create_connection((host, port), timeout=5) as chief:
            chief.settimeout(max(0.01, deadline - time.monotonic()))
            chief.sendall(str(rank).encode())
            if chief.recv(len(GO)) == GO:
                return True
    except OSError:
        pass
    time.sleep(PAUSE)
    return False
