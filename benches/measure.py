"""Runs commands and measures them; drops caches, finds mounts and the processes that serve them. Linux only."""

import os
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

STOP_GRACE_SECS = 10.0


@dataclass
class Outcome:
    """What one command cost. `max_rss_bytes` is never below this Python's own peak: the kernel
    carries the parent's peak over an exec that follows vfork (`setmax_mm_hiwater_rss`)."""

    wall_secs: float
    cpu_secs: float
    max_rss_bytes: int
    code: int
    stopped: bool
    output: str

    @property
    def ok(self):
        """Returns whether the command ended by itself with exit code 0."""
        return self.code == 0 and not self.stopped


class Failed(Exception):
    """A step that could not be carried out; the message names the command and its last words."""


class Stopped(Failed):
    """A step that was ended because it took longer than its limit."""


def run(argv, *, env=None, cwd=None, limit_secs=None, keep_output=False, daemon_pid=None):
    """Returns the outcome of one command, killed with its whole process group after `limit_secs`.

    Standard output goes to /dev/null unless `keep_output`, which leaves standard error out instead.
    A reader whose request a FUSE daemon holds cannot be killed: then `daemon_pid`, a process of ours, is.
    """
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as kept:
        start = time.perf_counter()
        child = subprocess.Popen(
            [os.fspath(a) for a in argv], env=env, cwd=cwd, stdin=subprocess.DEVNULL,
            stdout=kept if keep_output else subprocess.DEVNULL, stderr=errors, start_new_session=True)
        stopped = threading.Event()

        def stop():
            stopped.set()
            kill_group(child.pid)

        timers = [threading.Timer(limit_secs, stop)] if limit_secs else []
        if limit_secs and daemon_pid:
            timers.append(threading.Timer(limit_secs + STOP_GRACE_SECS, os.kill, (daemon_pid, signal.SIGKILL)))
        for timer in timers:
            timer.daemon = True
            timer.start()
        try:
            _, status, usage = os.wait4(child.pid, 0)
            wall_secs = time.perf_counter() - start
        except BaseException:
            kill_group(child.pid)
            child.wait()
            raise
        finally:
            for timer in timers:
                timer.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        chosen = kept if keep_output else errors
        chosen.seek(0)
        output = chosen.read().decode(errors="replace")
        return Outcome(wall_secs, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024,
                       child.returncode, stopped.is_set(), output)


def must(outcome, what, codes=(0,)):
    """Returns the outcome, or raises `Failed` with the end of its output when the exit code is not in `codes`."""
    if outcome.stopped:
        raise Stopped(f"{what}: stopped after {outcome.wall_secs:.0f} s")
    if outcome.code not in codes:
        last = outcome.output.strip().splitlines()[-3:]
        raise Failed(f"{what}: exit {outcome.code}: {' / '.join(last)}")
    return outcome


def kill_group(pid):
    """Kills the process group a command of ours leads; one that is gone is no error."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def can_drop_caches():
    """Returns whether this user may drop the kernel's caches."""
    return os.access("/proc/sys/vm/drop_caches", os.W_OK)


def drop_caches():
    """Writes dirty pages back, then drops page cache, dentries and inodes (proc(5), drop_caches)."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def warm(folder):
    """Reads every regular file below `folder` once, so that its pages and inodes are cached."""
    buffer = bytearray(1 << 20)
    for top, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(top, name)
            if os.path.islink(path) or not os.path.isfile(path):
                continue
            with open(path, "rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass


def tree_totals(folder):
    """Returns (entries, bytes in regular files) below `folder`; hard links count once each."""
    entries = total_bytes = 0
    stack = [os.fspath(folder)]
    while stack:
        with os.scandir(stack.pop()) as listing:
            for entry in listing:
                entries += 1
                if entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    total_bytes += entry.stat(follow_symlinks=False).st_size
    return entries, total_bytes


def available_bytes():
    """Returns the memory that could be used without swapping (MemAvailable, proc(5))."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def wait_quiet(max_secs):
    """Returns the share of the processors others use, 0 to 1, after waiting up to `max_secs` for it to fall below 0.1."""
    deadline = time.monotonic() + max_secs
    while True:
        before = cpu_ticks()
        time.sleep(0.1)
        busy = busy_share(before)
        if busy < 0.1 or time.monotonic() > deadline:
            return busy


def cpu_ticks():
    """Returns what all processors did so far, by kind, in the kernel's ticks (proc_stat(5))."""
    with open("/proc/stat") as stat:
        return [int(v) for v in stat.readline().split()[1:9]]


def busy_share(before):
    """Returns the share of all processors, 0 to 1, that was busy since `before`, as cpu_ticks() told it."""
    after = cpu_ticks()
    total = sum(after) - sum(before)
    idle = after[3] + after[4] - before[3] - before[4]
    return max(1 - idle / total, 0.0) if total else 0.0


def mounts():
    """Returns (mount point, minor device number) of every mount. Asks the kernel's mount table only, so it
    never waits for a file system that does not answer."""
    with open("/proc/self/mountinfo", "rb") as table:
        fields = [line.split(b" ") for line in table]
    return [(os.fsdecode(f[4].decode("unicode_escape").encode("latin-1")), int(f[2].split(b":")[1])) for f in fields]


def mount_device(path):
    """Returns the minor device number of the mount at `path`, or None."""
    return dict(mounts()).get(os.fspath(path))


def remove_tree(folder):
    """Removes `folder`, unless something is still mounted below it: then raises `Failed`."""
    inside = [point for point, _ in mounts() if point.startswith(os.fspath(folder) + "/")]
    if inside:
        raise Failed(f"{inside[0]} is still mounted, so {folder} was not removed: unmount it, then remove the folder")
    run(["rm", "-rf", "--one-file-system", folder])


def clear(folder):
    """Removes what `folder` holds, and makes it if it is missing; a mount below it is refused."""
    remove_tree(folder)
    Path(folder).mkdir(parents=True, exist_ok=True)


def serving_pid(path):
    """Returns the process that holds the FUSE connection of the mount at `path`.

    /proc/PID/fdinfo names the connection, which equals the minor device number; on a kernel that does not
    tell, it is the one FUSE process whose command line names the mount point.
    """
    connection = f"fuse_connection:\t{mount_device(path)}\n"
    for pid, info in _fuse_processes():
        if connection in info:
            return pid
        if "fuse_connection:" not in info and os.fspath(path).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise Failed(f"no process found that serves the mount {path}")


def _fuse_processes():
    """Yields (pid, fdinfo) for every open /dev/fuse."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            for fd in os.listdir(f"/proc/{entry}/fd"):
                if os.readlink(f"/proc/{entry}/fd/{fd}") == "/dev/fuse":
                    yield int(entry), Path(f"/proc/{entry}/fdinfo/{fd}").read_text()
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue


def peak_rss_bytes(pid):
    """Returns the largest resident size a process has had (VmHWM, proc(5))."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise Failed(f"process {pid} shows no VmHWM")


class Mount:
    """A mounted history: where, who serves it, and how long it took until its listing was there."""

    def __init__(self, argv, path, listing, *, env, background, limit_secs):
        """Mounts by `argv`; ready once `listing`, a folder at or below `path`, shows an entry.

        `background` means the command returns by itself once it has mounted.
        """
        self.path = Path(path)
        self.child = None
        self.pid = None
        self.path.mkdir(parents=True, exist_ok=True)
        # A listing that never answers cannot be interrupted; ending the daemon ends it.
        watchdog = threading.Timer(limit_secs, lambda: self.child and kill_group(self.child.pid))
        watchdog.daemon = True
        watchdog.start()
        start = time.perf_counter()
        try:
            if background:
                must(run(argv, env=env, limit_secs=limit_secs), f"{argv[0]} mount")
            else:
                self.log = tempfile.TemporaryFile()
                self.child = subprocess.Popen([os.fspath(a) for a in argv], env=env, stdin=subprocess.DEVNULL,
                                              stdout=self.log, stderr=self.log, start_new_session=True)
            self._wait_ready(listing, start + limit_secs)
            self.ready_secs = time.perf_counter() - start
            self.pid = serving_pid(self.path)
        except BaseException:
            self.close()
            raise
        finally:
            watchdog.cancel()

    def _wait_ready(self, listing, deadline):
        while time.perf_counter() < deadline:
            if self.child and self.child.poll() is not None:
                self.log.seek(0)
                raise Failed(f"mount at {self.path} ended: {self.log.read().decode(errors='replace')[-300:]}")
            if mount_device(self.path) is not None:
                try:
                    if os.listdir(listing):
                        return
                except FileNotFoundError:
                    pass
            time.sleep(0.0005)
        raise Stopped(f"mount at {self.path} shows no snapshot in time")

    def close(self):
        """Unmounts by path, then waits for the serving process to end, and ends it if it does not."""
        ways = [["umount", self.path], ["fusermount3", "-u", self.path], ["fusermount3", "-u", "-z", self.path]]
        for way in ways:
            if mount_device(self.path) is None:
                break
            if shutil.which(way[0]):
                run(way, limit_secs=STOP_GRACE_SECS)
        if self.child:
            try:
                self.child.wait(STOP_GRACE_SECS)
            except subprocess.TimeoutExpired:
                kill_group(self.child.pid)
                self.child.wait()
            self.log.close()
        elif self.pid:
            _await_end(self.pid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _await_end(pid):
    """Waits until a daemon of ours is gone, by a handle that no later process can inherit; kills it after the grace."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if not _ended_within(handle, STOP_GRACE_SECS):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            _ended_within(handle, STOP_GRACE_SECS)
    finally:
        os.close(handle)


def _ended_within(handle, secs):
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(secs * 1000))
