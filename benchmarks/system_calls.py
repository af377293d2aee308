"""System calls that fail, or at which a process is killed: on the files of one directory.

A process asks the kernel to be supervised (seccomp's user notification, Linux 5.5 or later). Each of its calls that
touches a file then waits until the supervisor answers: go on, or an error. The processes that it starts are supervised,
too. This needs no strace, no compiler and no rights, and works in most containers.
"""

import ctypes
import errno
import fcntl
import os
import platform
import re
import select
import signal
import socket
import struct
import threading
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

# From <linux/seccomp.h>, <linux/filter.h> and <linux/prctl.h>.
_NO_NEW_PRIVS, _SET_MODE_FILTER, _NEW_LISTENER = 38, 1, 8
_ALLOW, _USER_NOTIF = 0x7FFF0000, 0x7FC00000
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_RECEIVE, _SEND, _CONTINUE = 0xC0502100, 0xC0182101, 1
# struct seccomp_notif: id, process, flags, number of the call, architecture, address, six arguments.
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=QqiI")
# struct sock_filter: code, jump if true, jump if false, constant.
_INSTRUCTION = struct.Struct("=HBBI")
_HERE = -100  # AT_FDCWD
# With an odd LD_LIBRARY_PATH the loader looks for them here.
_LIBRARY = re.compile(r"\.so(\.[0-9.]+)?$")
_PATH_MAX = 4096


class _Machine(NamedTuple):
    audit: int
    """AUDIT_ARCH_*."""
    seccomp: int
    """Number of the call `seccomp`."""
    calls: dict[int, tuple[str, int | None, int]]
    """By number: what people call it, the argument that is a directory's handle or None, and the argument that is the
    path; or the handle itself where the second is -1."""


_X86_64 = {
    0: ("read", -1, 0),
    1: ("write", -1, 0),
    2: ("open", None, 0),
    17: ("read", -1, 0),
    18: ("write", -1, 0),
    19: ("read", -1, 0),
    20: ("write", -1, 0),
    40: ("write", -1, 0),  # sendfile
    74: ("sync", -1, 0),
    75: ("sync", -1, 0),
    77: ("truncate", -1, 0),
    82: ("rename", None, 0),
    83: ("mkdir", None, 0),
    84: ("remove", None, 0),
    87: ("remove", None, 0),
    257: ("open", 0, 1),
    258: ("mkdir", 0, 1),
    263: ("remove", 0, 1),
    264: ("rename", 0, 1),
    316: ("rename", 0, 1),
    326: ("write", -1, 2),  # copy_file_range
}
_AARCH64 = {
    34: ("mkdir", 0, 1),
    35: ("remove", 0, 1),
    38: ("rename", 0, 1),
    46: ("truncate", -1, 0),
    56: ("open", 0, 1),
    63: ("read", -1, 0),
    64: ("write", -1, 0),
    65: ("read", -1, 0),
    66: ("write", -1, 0),
    67: ("read", -1, 0),
    68: ("write", -1, 0),
    71: ("write", -1, 0),  # sendfile
    82: ("sync", -1, 0),
    83: ("sync", -1, 0),
    276: ("rename", 0, 1),
    285: ("write", -1, 2),  # copy_file_range
}
_MACHINES = {
    "x86_64": _Machine(0xC000003E, 317, _X86_64),
    "aarch64": _Machine(0xC00000B7, 277, _AARCH64),
}
# The argument of `open` with its flags is the one after the path.
_OPENS_TO_WRITE = os.O_CREAT

ERRORS = {
    "EIO": (errno.EIO, {"open", "create", "read", "write", "sync", "truncate", "rename", "mkdir", "remove"}),
    "ENOSPC": (errno.ENOSPC, {"create", "write", "sync", "truncate", "rename", "mkdir"}),
    "EINTR": (errno.EINTR, {"open", "create", "read", "write", "sync"}),
}
"""Errors by name: the number, and the calls that give it."""
KILL = 0
"""In place of an error's number: the process group is killed."""


class Fault(NamedTuple):
    """What happens at one call."""

    call: str
    """As `Supervisor.calls` has it."""
    number: int
    """At so many equal calls before it nothing happens."""
    error: int
    """Number of the error, or KILL."""

    def __str__(self) -> str:
        what = errno.errorcode[self.error] if self.error else "SIGKILL"
        return f"{what} at {self.call}" + (f", time {self.number + 1}" if self.number else "")


class Supervisor:
    """Answers the calls of one supervised process and those that it starts.

    Use it as a context; give `address` to `supervised` in the process.
    """

    def __init__(self, folder: Path, address: Path, fault: Fault | None = None) -> None:
        """Listen.

        Args:
            folder: calls about files elsewhere pass unseen.
            address: where a socket is made.
            fault: what happens at one of the calls.
        """
        self.folder, self.address, self.fault = f"{folder.resolve()}/", address, fault
        self.calls: list[str] = []
        """The calls, in order: what was done, and to which file below the folder. Numbers that differ between two equal
        runs are left out of names."""
        self.met = False
        """Whether the fault happened."""
        self._machine = _machine()
        self._group = 0

    def __enter__(self) -> Self:
        self.address.unlink(missing_ok=True)
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(self.address))
        self._door.listen(1)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Whoever never came is not waited for.
        self._door.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._door.close()
        self.address.unlink(missing_ok=True)

    def _serve(self) -> None:
        try:
            connection, _ = self._door.accept()
        except OSError:
            return
        with connection:
            said, (listener,), _, _ = socket.recv_fds(connection, 16, 1)
        self._group = int(said)
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        try:
            while not poll.poll()[0][1] & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
                self._answer(listener)
        finally:
            os.close(listener)

    def _answer(self, listener: int) -> None:
        question = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(listener, _RECEIVE, question)
        except OSError:
            return  # it was killed meanwhile
        identity, process, _, number, _, _, *arguments = _NOTIFICATION.unpack(question)
        error = self._error(process, number, arguments)
        answer = _ANSWER.pack(identity, 0, -error, 0) if error else _ANSWER.pack(identity, 0, 0, _CONTINUE)
        try:
            fcntl.ioctl(listener, _SEND, answer)
        except OSError:
            return  # it was killed meanwhile

    def _error(self, process: int, number: int, arguments: list[int]) -> int:
        """The error that a call gets; 0 for none."""
        try:
            what, path = self._what(process, number, arguments)
        except OSError:
            return 0  # a handle without a file, or the process is gone
        if not path.startswith(self.folder) or _LIBRARY.search(path):
            return 0
        call = f"{what} {_without_numbers(path.removeprefix(self.folder))}"
        self.calls.append(call)
        fault = self.fault
        if fault is None or self.met or call != fault.call or self.calls.count(call) <= fault.number:
            return 0
        self.met = True
        if fault.error == KILL:
            os.killpg(self._group, signal.SIGKILL)
        return fault.error

    def _what(self, process: int, number: int, arguments: list[int]) -> tuple[str, str]:
        what, folder, place = self._machine.calls[number]
        if folder == -1:
            return what, str(Path(f"/proc/{process}/fd/{ctypes.c_int(arguments[place]).value}").readlink())
        if what == "open" and arguments[place + 1] & _OPENS_TO_WRITE:
            what = "create"
        with Path(f"/proc/{process}/mem").open("rb", buffering=0) as memory:
            memory.seek(arguments[place])
            # A page at most: the next one may not be there.
            text = memory.read(_PATH_MAX - arguments[place] % _PATH_MAX)
            if b"\0" not in text:
                text += memory.read(_PATH_MAX)
        name = os.fsdecode(text.partition(b"\0")[0])
        handle = _HERE if folder is None else ctypes.c_int(arguments[folder]).value
        start = Path(f"/proc/{process}/cwd" if handle == _HERE else f"/proc/{process}/fd/{handle}")
        return what, os.path.normpath(name if name.startswith("/") else start.readlink() / name)


def supervised(address: str) -> None:
    """Have the calls of this process, and of those that it starts, answered by the supervisor at an address.

    Raises:
        OSError: the kernel has no such supervision, or forbids it.
    """
    machine = _machine()
    numbers = sorted(machine.calls)
    program = [_INSTRUCTION.pack(_LOAD, 0, 0, 4), _INSTRUCTION.pack(_JUMP_IF_EQUAL, 0, len(numbers) + 1, machine.audit)]
    program.append(_INSTRUCTION.pack(_LOAD, 0, 0, 0))
    program += [_INSTRUCTION.pack(_JUMP_IF_EQUAL, len(numbers) - i, 0, call) for i, call in enumerate(numbers)]
    program += [_INSTRUCTION.pack(_RETURN, 0, 0, _ALLOW), _INSTRUCTION.pack(_RETURN, 0, 0, _USER_NOTIF)]
    code = ctypes.create_string_buffer(b"".join(program))
    listing = ctypes.create_string_buffer(struct.pack("HP", len(program), ctypes.addressof(code)))
    c = ctypes.CDLL(None, use_errno=True)
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(address)
        if c.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "no_new_privs")
        listener = c.syscall(machine.seccomp, _SET_MODE_FILTER, _NEW_LISTENER, listing)
        if listener < 0:
            raise OSError(ctypes.get_errno(), "this kernel does not let a process be supervised (seccomp)")
        socket.send_fds(door, [str(os.getpgid(0)).encode()], [listener])
        os.close(listener)


def _machine() -> _Machine:
    try:
        return _MACHINES[platform.machine()]
    except KeyError:
        raise OSError(errno.ENOSYS, f"expected a machine of {' or '.join(_MACHINES)}: {platform.machine()}") from None


def _without_numbers(path: str) -> str:
    """A path without what differs between equal runs: identifiers, numbers of processes, random names."""
    path = re.sub(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", path)
    path = re.sub(r"\.[0-9a-f]{16}\.partial", ".partial", path.removesuffix(" (deleted)"))
    path = re.sub(r"\.[0-9]+\.partial", ".N.partial", path)
    return re.sub(r"(^|/)tmp[a-z0-9_]{8}", r"\1tmp", path)
