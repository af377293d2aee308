"""A Slurm of one node with two processors, in a directory of its own: slurmctld, slurmd and munge."""

import getpass
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from servers import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "sinfo")
# Debian's daemons are not on every user's path.
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
# A job that is queued again waits so long, by its credential's life; Slurm allows no less.
AGAIN_SECONDS = 5
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={munge}/socket,cred_expire={again}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
# A container gives no control groups.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
PlugStackConfig=/dev/null
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0
ReturnToService=2
KillWait=20
MinJobAge=3600
# Whatever the machine has: more processors than there are may be configured.
SlurmdParameters=config_overrides
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=one Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """What a user of the cluster does."""

    def __init__(self, folder: Path, configuration: Path) -> None:
        self.folder = folder
        self.environment = {"SLURM_CONF": str(configuration), "PATH": PATH}

    def asks(self, *words: str) -> str:
        """What a command of Slurm prints."""
        done = subprocess.run(words, env=os.environ | self.environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def tasks(self, job: str) -> dict[int, str]:
        """The state of each task of an array, by its number."""
        told = self.asks("squeue", "--array", "--noheader", "--states=all", f"--job={job}", "--format=%K %T")
        return {int(number): state for number, state in (line.split() for line in told.splitlines())}

    def restarts(self, job: str, task: int) -> int:
        """How often a task was started again."""
        found = re.search(r"\bRestarts=(\d+)", self.asks("scontrol", "show", "job", f"{job}_{task}"))
        assert found
        return int(found[1])

    def logs(self) -> str:
        """What the daemons say, for a test that fails."""
        return "\n".join(file.read_text(errors="replace")[-3000:] for file in sorted(self.folder.glob("*.log")))


def missing() -> list[str]:
    """Programs that are not here."""
    return [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]


@contextmanager
def running(folder: Path) -> Iterator[Slurm]:
    """Start it, and leave nothing running. A Slurm of the machine has other ports, other files, and another key."""
    munge = folder / "munge"
    for each in (munge, folder / "state", folder / "spool"):
        each.mkdir()
    (munge / "key").write_bytes(os.urandom(128))
    (munge / "key").chmod(0o600)
    configuration = folder / "slurm.conf"
    configuration.write_text(
        CONFIGURATION.format(
            host=socket.gethostname().partition(".")[0], user=getpass.getuser(), folder=folder, munge=munge,
            controller_port=free_port(), node_port=free_port(), again=AGAIN_SECONDS,
        )
    )  # fmt: skip
    slurm = Slurm(folder, configuration)
    files = [f"--{name}={munge / name}" for name in ("socket", "pid-file", "seed-file", "log-file")]
    commands = (
        # pytest's directories lie below /tmp, which everybody may write to: munge would refuse it.
        ["munged", "--foreground", "--force", f"--key-file={munge / 'key'}", *files],
        ["slurmctld", "-D", "-f", str(configuration)],
        ["slurmd", "-D", "-N", "one", "-f", str(configuration)],
    )
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            daemons.append(_start(command, slurm))
            if command[0] == "munged":
                _wait(lambda: (munge / "socket").exists(), daemons, slurm)
        _wait(lambda: _idle(slurm), daemons, slurm)
        yield slurm
    finally:
        _stop(slurm, daemons)


def _start(command: list[str], slurm: Slurm) -> "subprocess.Popen[bytes]":
    environment = os.environ | slurm.environment
    with (slurm.folder / f"{command[0]}-out.log").open("wb") as log:
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def _stop(slurm: Slurm, daemons: list["subprocess.Popen[bytes]"]) -> None:
    """End jobs first: the processes of a job outlive the daemons."""
    words = ["scancel", "--full", f"--user={getpass.getuser()}"]
    subprocess.run(words, env=os.environ | slurm.environment, capture_output=True, timeout=60)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and _squeue(slurm):
        time.sleep(0.3)
    for daemon in reversed(daemons):
        daemon.terminate()
    for daemon in reversed(daemons):
        try:
            daemon.wait(20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def _squeue(slurm: Slurm) -> str:
    done = subprocess.run(
        ["squeue", "--noheader"], env=os.environ | slurm.environment, capture_output=True, text=True, timeout=60
    )
    return done.stdout


def _idle(slurm: Slurm) -> bool:
    words = ["sinfo", "--noheader", "--format=%t"]
    done = subprocess.run(words, env=os.environ | slurm.environment, capture_output=True, text=True, timeout=60)
    return done.stdout.strip() == "idle"


def _wait(there: Callable[[], bool], daemons: list["subprocess.Popen[bytes]"], slurm: Slurm) -> None:
    deadline = time.monotonic() + 60
    while not there():
        assert time.monotonic() < deadline, slurm.logs()
        assert all(each.poll() is None for each in daemons), slurm.logs()
        time.sleep(0.2)
