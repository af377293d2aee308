from pathlib import Path

import pytest

from components.network import memory

GIB = 2**30


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 8 GiB to spare."""
    (tmp_path / "meminfo").write_text(f"MemTotal: {16 * GIB // 1024} kB\nMemAvailable: {8 * GIB // 1024} kB\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "OWN_CGROUP", tmp_path / "self")
    return tmp_path


def group(path: Path, limit: str, usage: int, reclaimable: int = 0, version: int = 2) -> None:
    names = ("memory.max", "memory.current", "inactive_file")
    if version == 1:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    path.mkdir(parents=True, exist_ok=True)
    (path / names[0]).write_text(limit + "\n")
    (path / names[1]).write_text(f"{usage}\n")
    (path / "memory.stat").write_text(f"anon 1\n{names[2]} {reclaimable}\n")


def test_without_a_limit_it_is_what_the_machine_has_left(machine: Path) -> None:
    assert memory.available() == 8 * GIB


def test_a_containers_limit_counts_and_what_it_can_give_back_does_not(machine: Path) -> None:
    (machine / "self").write_text("0::/\n")
    group(machine / "cgroup", str(4 * GIB), 3 * GIB, reclaimable=GIB)
    assert memory.available() == 2 * GIB


def test_the_lowest_limit_of_all_ancestors_counts(machine: Path) -> None:
    (machine / "self").write_text("0::/pod/container\n")
    group(machine / "cgroup" / "pod" / "container", "max", 0)
    group(machine / "cgroup" / "pod", str(3 * GIB), GIB)
    assert memory.available() == 2 * GIB


def test_control_groups_of_the_first_version_count_too(machine: Path) -> None:
    (machine / "self").write_text("5:cpu,cpuacct:/x\n4:memory:/docker/a\n")
    group(machine / "cgroup" / "memory" / "docker" / "a", str(2 * GIB), GIB, version=1)
    assert memory.available() == GIB


@pytest.mark.parametrize("limit", ["max", "", "many"])
def test_a_limit_that_is_none_does_not_count(machine: Path, limit: str) -> None:
    (machine / "self").write_text("0::/\n")
    group(machine / "cgroup", limit, 0)
    assert memory.available() == 8 * GIB


def test_a_group_above_its_limit_leaves_nothing(machine: Path) -> None:
    (machine / "self").write_text("0::/\n")
    group(machine / "cgroup", str(GIB), 2 * GIB)
    assert memory.available() == 0
    assert not memory.fits(1)


def test_half_of_what_is_left_may_be_held(machine: Path) -> None:
    assert memory.fits(4 * GIB)
    assert not memory.fits(4 * GIB + 1)


def test_this_machine_has_some() -> None:
    assert memory.available() > 2**20
