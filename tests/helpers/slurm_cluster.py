"""Run a command in a SLURM of one machine, to try and to test studies: `slurm_cluster.py -- COMMAND ...`.

    apt-get install slurm-wlm munge                          # Debian, Ubuntu
    python tests/helpers/slurm_cluster.py -- nnunet_partial study run study.yaml --executor slurm
    python tests/helpers/slurm_cluster.py -- bash                    # sinfo, squeue, sbatch ... to look around

Everything (keys, ports, state, logs) is its own and lies in one temporary folder, so that a SLURM that the machine
belongs to is neither seen nor touched; it listens on the loopback address alone, and ends with the command.
"""

from __future__ import annotations

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
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "sinfo", "squeue", "scancel")

# Jobs ask for what a study gives them, and would wait for ever on a machine that has less: so it may say it has more.
# Ended jobs stay in squeue for a day, as nobody keeps accounts.
CONFIGURATION = """\
ClusterName=onemachine
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MinJobAge=86400
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=64000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class CannotStart(RuntimeError):
    """There is no SLURM on this machine, or it does not start; says which program, and the end of its log."""


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Starts SLURM in an empty folder with a short path; gives the environment in which its commands find it.

    Jobs that are left at the end are cancelled. Raises CannotStart.
    """
    missing = [program for program in PROGRAMS if _program(program) is None]
    if missing:
        raise CannotStart(f"not installed: {', '.join(missing)} (Debian, Ubuntu: apt-get install slurm-wlm munge)")
    configuration = _write_configuration(folder)
    _write_srun(folder / "bin", configuration)
    path = f"{folder}/bin{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environment = {**os.environ, "SLURM_CONF": str(configuration), "PATH": path}
    with ExitStack() as running:
        for command in _daemons(folder):
            running.enter_context(_daemon(command, folder, environment))
            _wait_for_socket(folder / "munge.socket")
        _wait_until_idle(environment, folder)
        try:
            yield environment
        finally:
            _cancel_all(environment)


def _program(name: str) -> str | None:
    """Daemons lie where an ordinary user's PATH does not lead."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))


def _write_configuration(folder: Path) -> Path:
    folder.chmod(0o755)  # munged refuses a socket that not everybody can reach; its key stays private
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    controller_port, node_port = _free_ports(2)
    file = folder / "slurm.conf"
    file.write_text(
        CONFIGURATION.format(
            folder=folder,
            host=socket.gethostname().split(".")[0],
            user=pwd.getpwuid(os.getuid()).pw_name,
            cpus=max(4, len(os.sched_getaffinity(0))),
            controller_port=controller_port,
            node_port=node_port,
        )
    )
    return file


def _write_srun(folder: Path, configuration: Path) -> None:
    """Snakemake takes all variables SLURM_... away before it calls srun within a job; this one gives it ours back."""
    folder.mkdir()
    wrapper = folder / "srun"
    wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={configuration} exec {_program("srun")} "$@"\n')
    wrapper.chmod(0o755)


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [listening.getsockname()[1] for listening in sockets]


def _daemons(folder: Path) -> list[list[str]]:
    """In the foreground each, so that they are our children and can be stopped as such."""
    files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    return [
        ["munged", "--foreground", f"--socket={folder}/munge.socket", *files],
        ["slurmctld", "-D"],
        ["slurmd", "-D"],
    ]


@contextmanager
def _daemon(command: Sequence[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    program = _program(command[0])
    assert program is not None
    with (folder / f"{command[0]}.output").open("wb") as output:
        # in a session of its own: Ctrl-C is for the user's command, and the daemons go after it
        process = subprocess.Popen(
            [program, *command[1:]], stdout=output, stderr=output, env=environment, start_new_session=True
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_socket(path: Path, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not path.is_socket():
        if time.monotonic() > end:
            raise CannotStart(f"munged does not start:\n{_end_of_logs(path.parent)}")
        time.sleep(0.05)


def _wait_until_idle(environment: dict[str, str], folder: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while _ask(environment, "sinfo", "--noheader", "--format=%T") != "idle":
        if time.monotonic() > end:
            raise CannotStart(f"the node does not become idle within {seconds:.0f} s:\n{_end_of_logs(folder)}")
        time.sleep(0.2)


def _end_of_logs(folder: Path) -> str:
    logs = sorted(folder.glob("*.output"))
    return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-1000:]}" for log in logs)


def _ask(environment: dict[str, str], *command: str) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip()


def _cancel_all(environment: dict[str, str], seconds: float = 60) -> None:
    """A job outlives the daemons that started it, so it must be gone before they are."""
    end = time.monotonic() + seconds
    while jobs := _ask(environment, "squeue", "--noheader", "--format=%A").split():
        if time.monotonic() > end:
            print(f"SLURM jobs that did not end: {', '.join(jobs)}", file=sys.stderr)
            return
        _ask(environment, "scancel", *jobs)
        time.sleep(0.5)


def main(arguments: Sequence[str]) -> int:
    command = list(arguments[1:] if arguments[:1] == ["--"] else arguments)
    if not command:
        print(__doc__, file=sys.stderr)
        return 2
    # sockets have short paths, so not below a TMPDIR of any depth
    with tempfile.TemporaryDirectory(prefix="slurm", dir="/tmp") as folder, cluster(Path(folder)) as environment:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the command, which decides
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except CannotStart as problem:
        sys.exit(f"SLURM cannot be started here. {problem}")
