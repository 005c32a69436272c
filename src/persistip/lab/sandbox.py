"""
Where can the lab run so that nothing of it outlives it?

In: a command.  Out: its exit status, after it ran in user (only when needed), network, mount and PID
namespaces of its own, with a private tmpfs for its files.
The rule is the lab's own promise: Ctrl-C, SIGTERM and kill -9 of any of its processes leave no namespace,
no process and no file behind. So nothing here cleans up in a handler; it all hangs on the kernel:

    outside ──fork──> keeper ──fork──> init ──fork, exec──> the command ──> agents, Pods, probes
    (waits,           (new namespaces;  (PID 1: mounts,      (the lab)
     relays signals)   dies with         dies with keeper,
                       outside)          and its PID namespace with it)

Where a PID namespace cannot have its own /proc (inside some containers), there is none: then init adopts and
kills what the command leaves, and every process asks the kernel to be killed with its parent (`die_with`).

System calls go through ctypes: Python 3.11 has no os.unshare, and a fresh machine has no `unshare` program.
"""

import contextlib
import ctypes
import errno
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import attrs

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 0x2, 0x4, 0x8, 0x4000, 0x40000
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_ENVIRONMENT = "PERSISTIP_LAB_SANDBOX"
_RELAYED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_SI_KERNEL = 0x80
PATIENCE_SECONDS = 5.0
"""How long a command may take to go down after Ctrl-C before another one kills it."""
_TMPFS_PLACES = ("/run", "/mnt", "/media", "/srv", "/opt")
"""Folders that every system has and the lab does not read: the private tmpfs hides one, so that no folder is made."""

_libc = ctypes.CDLL(None, use_errno=True)


class SandboxUnavailableError(Exception):
    """This machine does not let us make the namespaces; `causes` says what is missing and who can allow it."""

    def __init__(self, obstacles: Sequence["Obstacle"]) -> None:
        self.obstacles = tuple(obstacles)
        self.causes = tuple(dict.fromkeys(cause for obstacle in obstacles for cause in _causes(obstacle)))
        tried = "; ".join(dict.fromkeys(f"{each.step}: {os.strerror(each.number)}" for each in obstacles))
        lines = [f"the lab cannot make a network of its own ({tried})"]
        lines += [f"  - {cause}" for cause in self.causes]
        lines.append("Without it the lab still runs, on simulated packets: persistip lab --datapath memory")
        super().__init__("\n".join(lines))


@attrs.frozen
class Obstacle:
    """The step that failed on the way into a sandbox, and its errno."""

    step: str
    number: int


@attrs.frozen
class Sandbox:
    """What the command inside may know about the place it runs in."""

    rootless: bool
    pid_namespace: bool
    state: Path
    """A folder on the private tmpfs: sockets and logs."""


# --- system calls -------------------------------------------------------------------------------------------


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Give the calling thread (for NEWUSER and NEWPID: the process) new namespaces; OSError if refused."""
    _call("unshare", ctypes.c_int(flags))


def setns(fd: int, kind: int = CLONE_NEWNET) -> None:
    """Move the calling thread into the namespace that *fd* refers to; OSError if refused."""
    _call("setns", ctypes.c_int(fd), ctypes.c_int(kind))


@contextlib.contextmanager
def inside(fd: int) -> Iterator[None]:
    """
    Run the body in the network namespace *fd*, in this thread alone.

    A socket belongs to the namespace it was made in, so sockets made here go on working there.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(fd)
        try:
            yield
        finally:
            setns(home)
    finally:
        os.close(home)


def die_with(parent: int) -> None:
    """
    Be killed by the kernel when the parent *thread* ends, even by kill -9.

    Set after any change of credentials, which clears it; *parent* tells whether the parent ended before.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    _call("mount", source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode() or None)


# --- the inside's view --------------------------------------------------------------------------------------


def current() -> Sandbox | None:
    """The sandbox that this process runs in, or None outside."""
    text = os.environ.get(_ENVIRONMENT)
    if text is None:
        return None
    facts = json.loads(text)
    return Sandbox(rootless=facts["rootless"], pid_namespace=facts["pid_namespace"], state=Path(facts["state"]))


# --- running ------------------------------------------------------------------------------------------------


@attrs.frozen
class _Job:
    """All that the processes on the way in must know; *writer* tells the outside what went wrong."""

    user: bool
    pid: bool
    command: Sequence[str]
    environment: Mapping[str, str]
    writer: int = -1
    mask: frozenset[int] = frozenset()

    def fail(self, step: str, error: OSError) -> NoReturn:
        """Tell the outside, and end this process."""
        os.write(self.writer, json.dumps([step, error.errno or errno.EIO]).encode())
        os._exit(1)


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """
    Run *command* in a sandbox of its own and return its exit status (128 + signal if it was killed).

    Standard streams and the terminal are shared; signals sent to this process reach the command; a Ctrl-C that comes
    PATIENCE_SECONDS after the first kills it. Call it from the main thread of a process without other threads, since it
    forks.
    Raises SandboxUnavailableError, saying what is missing, before the command starts; OSError if there is no such
    program.
    """
    obstacles = []
    # With rights already there, a user namespace would only take some of them away.
    for user in (False, True) if os.geteuid() == 0 else (True,):
        for pid in (True, False):
            job = _Job(user=user, pid=pid, command=command, environment=environment or dict(os.environ))
            outcome = attempt(job)
            if isinstance(outcome, int):
                return outcome
            if outcome.step == "exec":
                raise OSError(outcome.number, os.strerror(outcome.number), command[0])
            obstacles.append(outcome)
    raise SandboxUnavailableError(obstacles)


def attempt(job: _Job) -> int | Obstacle:
    """Run the command in one kind of sandbox; what stood in the way is a value, since another kind may work."""
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    outside = os.getpid()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*_RELAYED, signal.SIGCHLD})
    try:
        keeper = os.fork()
        if keeper == 0:
            os.close(reader)
            _keep(attrs.evolve(job, writer=writer, mask=frozenset(mask)), outside)
        os.close(writer)
        with open(reader, "rb") as pipe:  # noqa: PTH123 - a descriptor, not a path
            report = pipe.read()
        status = _relay(keeper, outermost=True)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if report:
        step, number = json.loads(report)
        return Obstacle(step=step, number=number)
    return status


def _relay(child: int, outermost: bool) -> int:
    """
    Wait for *child*, reaping whatever else ends and handing on signals; return its exit status.

    A terminal sends Ctrl-C to every process of the group, so the child has it already (SI_KERNEL).
    """
    first_interrupt: float | None = None
    is_given_up = False
    while True:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1 if not outermost else child, os.WNOHANG)
                if pid == 0:
                    break
                if pid == child:
                    code = os.waitstatus_to_exitcode(status)
                    code = code if code >= 0 else 128 - code
                    return 128 + signal.SIGINT if is_given_up else code
        caught = signal.sigwaitinfo({*_RELAYED, signal.SIGCHLD})
        if caught.si_signo == signal.SIGCHLD:
            continue
        if caught.si_signo == signal.SIGINT and outermost:
            now = time.monotonic()
            first_interrupt = now if first_interrupt is None else first_interrupt
            if now - first_interrupt > PATIENCE_SECONDS:
                is_given_up = True
                os.kill(child, signal.SIGKILL)
                continue
        if caught.si_code != _SI_KERNEL:
            os.kill(child, caught.si_signo)


def _keep(job: _Job, outside: int) -> NoReturn:
    """Make the namespaces and start init, which lives as long as this process does."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUSER * job.user | CLONE_NEWPID * job.pid)
    except OSError as error:
        job.fail("unshare", error)
    if job.user:
        try:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
            Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
        except OSError as error:
            job.fail("user mapping", error)
    die_with(outside)
    # Across PID namespaces init cannot see whether this process lives on; the end of a pipe can.
    life, held = os.pipe()
    init = os.fork()
    if init == 0:
        os.close(held)
        _initialise(job, life)
    os.close(job.writer)
    os._exit(_relay(init, outermost=False))


def _initialise(job: _Job, life: int) -> NoReturn:
    """Be PID 1 of the sandbox: mount what is private, start the command, reap, and end with it."""
    die_with(os.getppid())
    if select.select([life], [], [], 0)[0]:
        os._exit(128 + signal.SIGKILL)
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    step = "mount private /"
    try:
        _mount("none", "/", "", _MS_REC | _MS_PRIVATE)
        if job.pid:
            step = "mount /proc"
            _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
        place = _tmpfs_place(job)
        step = f"mount tmpfs on {place}"
        _mount("persistip-lab", str(place), "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0700,size=256m")
        state = place / "persistip-lab"
        state.mkdir(mode=0o700)
        step = "write /proc/sys/net"
        Path("/proc/sys/net/ipv4/ip_forward").write_text("0")
    except OSError as error:
        job.fail(step, error)
    facts = {"rootless": job.user, "pid_namespace": job.pid, "state": str(state)}
    environment = {**job.environment, _ENVIRONMENT: json.dumps(facts), "TMPDIR": str(state)}
    init = os.getpid()
    pid = os.fork()
    if pid == 0:
        if not job.pid:
            die_with(init)
        signal.pthread_sigmask(signal.SIG_SETMASK, job.mask)
        try:
            os.execvpe(job.command[0], list(job.command), environment)
        except OSError as error:
            job.fail("exec", error)
    os.close(job.writer)
    status = _relay(pid, outermost=False)
    if not job.pid:
        _kill_descendants(init)
    os._exit(status)


def _tmpfs_place(job: _Job) -> Path:
    """The first usual folder that holds neither the interpreter, nor this package, nor anything the command names."""
    needed = [str(Path.cwd()), sys.prefix, sys.base_prefix, sys.executable, __file__]
    needed += [path for path in (*sys.path, job.environment.get("HOME")) if path]
    needed += [argument.partition("=")[2] or argument for argument in job.command]
    paths = [Path(path).resolve() for path in needed]
    for place in map(Path, _TMPFS_PLACES):
        if place.is_dir() and not any(path.is_relative_to(place.resolve()) for path in paths):
            return place
    raise OSError(errno.EBUSY, "every usual folder for a private tmpfs is in use")


def _kill_descendants(init: int) -> None:
    """End all that the command left; the orphans are ours, since init is their subreaper."""
    while True:
        children = [pid for pid, parent in _parents() if parent == init]
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _parents() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                yield int(entry.name), int((entry / "stat").read_text().rpartition(")")[2].split()[1])


# --- what is missing ----------------------------------------------------------------------------------------


def _setting(name: str) -> str | None:
    try:
        return Path("/proc/sys", *name.split(".")).read_text().strip()
    except OSError:
        return None


def _causes(obstacle: Obstacle) -> list[str]:
    """Turn an errno into sentences that a user can act on: which setting, which permission, what to type."""
    limits = [f"user.max_{kind}_namespaces" for kind in ("user", "net", "mnt", "pid")]
    causes = [f"{limit} is 0; to allow them: sysctl -w {limit}=1024" for limit in limits if _setting(limit) == "0"]
    if os.geteuid() != 0:
        for name, refusing, allowing in (
            ("kernel.unprivileged_userns_clone", "0", "1"),
            ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
        ):
            if _setting(name) == refusing:
                causes.append(f"{name} is {refusing}; to let ordinary users: sysctl -w {name}={allowing}")
        causes.append("or run the lab as root: then no user namespace is needed")
    if obstacle.number in (errno.EPERM, errno.ENOSYS) and _seccomp():
        causes.append(
            "a seccomp filter is active, as in a container: start the container with --privileged, or with --cap-add "
            "SYS_ADMIN --cap-add NET_ADMIN --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
        )
    if obstacle.step == "write /proc/sys/net":
        causes.append("/proc/sys is read only, as in a container without --privileged; nodes must be able to forward")
    if obstacle.step == "unshare" and obstacle.number == errno.EINVAL:
        causes.append("the kernel is built without one of USER_NS, NET_NS, PID_NS")
    if obstacle.step == "unshare" and obstacle.number == errno.ENOSPC:
        causes.append("a limit on namespaces is reached: see sysctl user.max_user_namespaces, user.max_net_namespaces")
    return causes


def _seccomp() -> bool:
    try:
        return "Seccomp:\t2" in Path("/proc/self/status").read_text()
    except OSError:
        return False


def main(arguments: Sequence[str]) -> int:
    """`python -m persistip.lab.sandbox COMMAND…`: run any command in a sandbox, for tests and for looking around."""
    if not arguments:
        print("usage: python -m persistip.lab.sandbox COMMAND [ARGUMENT…]", file=sys.stderr)
        return 2
    try:
        return run(arguments)
    except SandboxUnavailableError as error:
        print(error, file=sys.stderr)
        return 2
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
