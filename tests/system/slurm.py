"""A Slurm cluster on this host: a head and three nodes, each with namespaces, a network card and a name of its own."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from harness.core import process
from harness.core.deadline import Deadline, poll
from harness.core.namespaces import prefix

NODES = 3
_HERE = Path(__file__).parent
_SLURM_CONF = """\
ClusterName=bootproof
SlurmctldHost=head(10.78.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
SelectType=select/linear
SlurmdParameters=config_overrides
JobRequeue=0
SlurmdTimeout=10
KillWait=5
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Runs commands of Slurm on the head, the process ``head``; ``folder`` has the configuration, state and logs."""

    folder: Path
    head: int

    def run(self, *argv: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
        """What ``argv`` prints; `CommandFailed` for any status but 0."""
        within = ["nsenter", f"--target={self.head}", "--all", "--preserve-credentials"]
        if cwd is not None:
            within.append(f"--wd={cwd}")
        variables = [f"{name}={value}" for name, value in (env or {}).items()]
        settings = [f"SLURM_CONF={self.folder}/slurm.conf", *variables]
        return process.output([*within, "env", *settings, *argv])

    def kill(self, node: str) -> None:
        """As a power cut does: all its processes are gone, and nothing answers at its address."""
        self.run("kill", "-KILL", (self.folder / f"{node}.pid").read_text().strip())  # an id of the head's namespace

    def job(self, job: str) -> dict[str, str]:
        """What ``scontrol show job`` says of one job or task."""
        return dict(re.findall(r"(\S+?)=(\S+)", self.run("scontrol", "--oneliner", "show", "job", job)))

    def start_requeued(self) -> None:
        """Slurm starts a requeued task after two minutes; here, at once."""
        for task in self.run("squeue", "--noheader", "--format=%i %r").splitlines():
            job, _, reason = task.partition(" ")
            if reason == "BeginTime":
                self.run("scontrol", "update", f"JobId={job}", "StartTime=now")


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster whose nodes are ready; all of it ends with the block."""
    for program, package in (("slurmctld", "slurmctld"), ("slurmd", "slurmd"), ("munged", "munge")):
        process.require(program, package)
    addresses = (f"NodeName=node{n} NodeAddr=10.78.0.1{n} CPUs=1 State=UNKNOWN" for n in range(1, NODES + 1))
    (folder / "slurm.conf").write_text(_SLURM_CONF.format(folder=folder, nodes="\n".join(addresses)))
    argv = [*prefix(), "unshare", "--net", "--uts", "bash", f"{_HERE}/slurm_head.sh", str(folder), str(NODES)]
    with (
        (folder / "head.out").open("wb") as log,
        process.spawn(argv, stdout=log.fileno(), stderr=log.fileno()) as child,
    ):
        head = poll(lambda: _only_child(child.pid), Deadline(10), every_s=0.1)
        assert head, (folder / "head.out").read_text()
        try:
            made = Cluster(folder, head)
            are_ready = poll(lambda: _idle_nodes(made) == NODES, Deadline(60), every_s=0.5)
            assert are_ready, (folder / "head.out").read_text()
            yield made
        finally:
            os.kill(head, signal.SIGKILL)  # the first process of its PID namespace: all others end with it


def _only_child(pid: int) -> int | None:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else None


def _idle_nodes(made: Cluster) -> int:
    with suppress(process.CommandFailed):  # slurmctld does not answer yet
        return len(made.run("sinfo", "--noheader", "--Node", "--states=idle").splitlines())
    return 0
