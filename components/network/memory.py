"""How much memory is free."""

import os
from collections.abc import Iterator
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def available() -> int:
    """Bytes that this process can still take: what is free on the machine, or less if its container has a limit."""
    return max(0, min([_machine(), *_cgroups()]))


def fits(size: int) -> bool:
    """Whether so many bytes fit into half of what is free. The network and the page cache need the other half."""
    return size <= available() // 2


def _machine() -> int:
    try:
        lines = MEMINFO.read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) * 1024
    except (OSError, StopIteration):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2  # not Linux: what is free is not known


def _cgroups() -> Iterator[int]:
    """Bytes left below the limit of each control group of this process."""
    try:
        groups = [line.split(":", 2)[1:] for line in OWN_CGROUP.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return
    for controllers, own in groups:
        if controllers == "":  # version 2; every ancestor may have a limit
            names, root = ("memory.max", "memory.current", "inactive_file"), CGROUPS
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            root = CGROUPS / "memory"
        else:
            continue
        folder = root / own.lstrip("/")
        for each in (folder, *folder.parents):
            if each.is_relative_to(root) and (left := _left(each, *names)) is not None:
                yield left


def _left(folder: Path, limit: str, usage: str, reclaimable: str) -> int | None:
    try:
        most = (folder / limit).read_text(encoding="utf-8").strip()
        if most == "max":
            return None
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="utf-8").splitlines())
        return int(most) - int((folder / usage).read_text(encoding="utf-8")) + int(statistics.get(reclaimable, 0))
    except (OSError, ValueError):
        return None  # no such group here, or no limit on it
