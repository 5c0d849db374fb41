"""A Slurm of one node for a test: Debian's slurmctld, slurmd and munge, their ports on the loopback, no accounts.

The node says it has four cores whatever it has. Jobs in the partition `urgent` put those of the usual one back into
the queue, as they do where a cluster is shared.
"""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from two_processes import wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "srun")
CONFIG = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
KillWait=10
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=1000
PartitionName=usual Nodes=ALL Default=YES PriorityTier=1
PartitionName=urgent Nodes=ALL PriorityTier=2 PreemptMode=OFF
"""


@contextmanager
def cluster() -> Iterator[Path]:
    """Bring it up and yield its slurm.conf, for $SLURM_CONF; skip where it is not installed, or one is not root."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))
    if missing := [name for name in PROGRAMS if shutil.which(name, path=path) is None]:
        pytest.skip(f"no {missing[0]}: apt-get install slurmctld slurmd slurm-client munge")
    if os.geteuid():
        pytest.skip("the daemons of a Slurm need root")
    host = socket.gethostname().partition(".")[0]
    with ExitStack() as stack:
        made = tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True)
        folder = Path(stack.enter_context(made))
        folder.chmod(0o755)
        for name in ("munge", "state", "spool"):
            (folder / name).mkdir(mode=0o755)
        key = folder / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        for each in (folder / "munge", key):
            shutil.chown(each, "munge", "munge")
        config = folder / "slurm.conf"
        config.write_text(CONFIG.format(host=host, folder=folder, ports=_free_ports(2)))

        def start(*command: str, **how: str) -> None:
            with (folder / f"{command[0]}.log").open("wb") as log:
                env = {**os.environ, "PATH": path, "SLURM_CONF": str(config)}
                process = subprocess.Popen(command, stdout=log, stderr=log, env=env, **how)  # type: ignore[call-overload]
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)

        munge = folder / "munge"
        files = [f"--{name}-file={munge / name}" for name in ("key", "pid", "seed", "log")]
        start("munged", "--foreground", f"--socket={munge / 'socket'}", *files, user="munge", group="munge")
        wait_until((munge / "socket").exists, seconds=300)
        start("slurmctld", "-D", "-c")
        start("slurmd", "-D", "-c")
        ask = ["sinfo", "--noheader", "--format=%T", "--partition=usual"]
        said = {**os.environ, "SLURM_CONF": str(config)}
        wait_until(
            lambda: subprocess.run(ask, env=said, capture_output=True).stdout == b"idle\n", seconds=300
        )
        stack.callback(subprocess.run, ["scancel", "--user=root"], env=said, timeout=30)
        yield config


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
