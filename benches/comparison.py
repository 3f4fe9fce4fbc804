"""One side-by-side run: the working copy, the steps every tool goes through, and the samples they give."""

import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from dump import write_dump
from measure import (Failed, Stopped, available_bytes, clear, drop_caches, must, peak_rss_bytes, run, tree_totals,
                     wait_quiet, warm)
from rows import MIB, Table

FIND_FORMAT = "%p %y %s %T@ %C@ %m %U %G %i %n %b\\n"
DUMP_NAME = "dump.sql"
WARM_READS = 5
MOUNTS_PER_ROUND = 3


def step(row, needed=False):
    """Marks a step: the row that shows its failure, and whether every later step needs it."""
    def mark(method):
        method.row, method.needed = row, needed
        return method
    return mark


class Machine:
    """The machine without a backup tool: the ceilings."""

    name = "machine"


class Comparison:
    """One run: the working copy, the tools, and the samples."""

    def __init__(self, options, work, tools):
        self.options = options
        self.work = work
        self.tools = tools
        self.machine = Machine()
        self.keys = options.rows
        self.table = Table(tools)
        self.tree = work / "tree"
        self.dest = None
        self.scratch = work / "scratch"
        self.order = random.Random(options.seed)
        self.busy_shares = []
        self.out = set()

    # Samples

    def wants(self, *keys):
        """Returns whether one of the rows is asked for."""
        return any(key in self.keys for key in keys)

    def add(self, key, tool, value):
        """Keeps one sample."""
        self.table.cell(key, tool.name).samples.append(value)

    def note(self, key, tool, text):
        """Keeps a remark on a row of a tool."""
        self.table.cell(key, tool.name).notes.add(text)

    def skip(self, key, tool):
        """Returns whether a row is not asked for, or was stopped in an earlier round."""
        return key not in self.keys or self.table.cell(key, tool.name).stopped

    def ready(self, cold=False):
        """Brings the machine to rest, with empty caches for a cold figure."""
        if cold:
            drop_caches()
        else:
            os.sync()
        self.busy_shares.append(wait_quiet(self.options.quiet_secs))

    def timed(self, key, tool, call, cold=False, codes=(0,), value=lambda outcome: outcome.wall_secs):
        """Takes one sample of a row: the machine at rest, the call, its value. Returns the outcome, or None."""
        if self.skip(key, tool):
            return None
        self.ready(cold)
        try:
            outcome = call()
        except Failed as error:
            self.table.cell(key, tool.name).stopped = isinstance(error, Stopped)
            self.note(key, tool, str(error)[:300])
            return None
        if outcome.stopped:
            self.table.cell(key, tool.name).stopped = True
            return outcome
        if outcome.code not in codes:
            last = (outcome.output.strip().splitlines() or [""])[-1]
            self.note(key, tool, f"exit {outcome.code}: {last[:160]}")
        self.add(key, tool, value(outcome))
        return outcome

    def each(self, chosen, *, machine=False):
        """Runs a step for every tool in a new random order. A tool that fails is named and goes on with the next
        step, unless all later ones need this one."""
        order = [tool for tool in self.tools.values() if tool.name not in self.out]
        order += [self.machine] if machine else []
        self.order.shuffle(order)
        for tool in order:
            print(f"  {chosen.__name__} {tool.name}", file=sys.stderr, flush=True)
            try:
                chosen(tool)
            except Failed as error:
                print(f"    {tool.name}: {error}", file=sys.stderr, flush=True)
                self.note(chosen.row, tool, str(error)[:300])
                if isinstance(error, Stopped):
                    self.table.cell(chosen.row, tool.name).stopped = True
                if chosen.needed:
                    self.out.add(tool.name)

    # Set-up

    def make_tree(self, folders):
        """Copies the folders into the work folder, adds the dump if they hold none, and chooses the small file."""
        self.tree.mkdir()
        for folder in folders:
            target = self.tree / Path(folder).resolve().relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            must(run(["cp", "-a", "--reflink=auto", folder, target]), f"cp of {folder}")
        found = sorted(self.tree.rglob(DUMP_NAME))
        self.dump = found[0] if found else self.tree / DUMP_NAME
        if self.options.dump:
            shutil.copy2(self.options.dump, self.dump)
        elif not found:
            write_dump(self.dump, self.options.dump_mib * MIB)
        self.dump_bytes = self.dump.stat().st_size
        self.files = sorted(path for path in self.tree.rglob("*")
                            if path.is_file() and not path.is_symlink() and path != self.dump)
        small = [path for path in self.files if 1024 <= path.stat().st_size <= 16384] or self.files
        if not small:
            raise Failed("the folders hold no regular file to copy")
        self.small = small[len(small) // 2]
        self.files.remove(self.small)
        self.totals = tree_totals(self.tree)
        self.dest = self.choose_dest()

    def choose_dest(self):
        """Returns a new folder for what is copied out: in memory where that is large enough, else in the work folder."""
        parent = self.options.dest
        if not parent:
            shm, needed_bytes = Path("/dev/shm"), 4 * self.totals[1]
            roomy = shm.is_dir() and min(shutil.disk_usage(shm).free, available_bytes()) > needed_bytes
            parent = shm if roomy else self.work
        return Path(tempfile.mkdtemp(prefix="bakfs-compare-", dir=parent))

    def change_tree(self, round_number):
        """Changes a few files as a day's work would: ten grow, five go, five come, and 64 KiB inside the dump change."""
        source = random.Random(1000 + round_number)
        chosen = source.sample(self.files, min(15, len(self.files)))
        for path in chosen[:10]:
            path.chmod(path.stat().st_mode | 0o200)
            with open(path, "ab") as file:
                file.write(f"changed in round {round_number}\n".encode())
        for path in chosen[10:]:
            path.unlink()
            self.files.remove(path)
        for number in range(5):
            path = chosen[0].parent / f"new-{round_number}-{number}.txt"
            path.write_text(f"new in round {round_number}: {source.random()}\n")
        place = source.randrange(max(1, self.dump_bytes - 65536))
        with open(self.dump, "r+b") as file:
            file.seek(place)
            file.write(source.randbytes(32768).hex().encode()[:max(0, self.dump_bytes - place)])
        self.totals = tree_totals(self.tree)

    # Steps

    @step("backup", needed=True)
    def first_backup(self, tool):
        """A new repository with the source cached, then the unchanged tree warm and cold."""
        if tool is self.machine:
            find = ["find", self.tree, "-printf", FIND_FORMAT]
            run(find)
            self.timed("walk-warm", tool, lambda: run(find))
            if self.options.cold:
                self.timed("walk-cold", tool, lambda: run(find), cold=True)
            return
        tool.init()
        warm(self.tree)
        self.ready()
        outcome = tool.backup(self.tree)
        self.add("backup", tool, outcome.wall_secs)
        self.add("backup-cpu", tool, outcome.cpu_secs)
        self.add("backup-rss", tool, outcome.max_rss_bytes / MIB)
        self.add("size", tool, tool.repo_bytes() / MIB)
        if self.wants("unchanged-warm"):
            run(["find", self.tree, "-printf", FIND_FORMAT])
            self.timed("unchanged-warm", tool, lambda: tool.backup(self.tree), codes=tool.committed_codes)
        if self.options.cold and self.wants("unchanged-cold"):
            self.timed("unchanged-cold", tool, lambda: tool.backup(self.tree), cold=True, codes=tool.committed_codes)

    @step("backup-cold")
    def cold_backup(self, tool):
        """A new repository with the source on disk only."""
        if tool is self.machine:
            clear(self.scratch)
            self.timed("copy-cold", tool, lambda: run(["cp", "-a", self.tree, self.scratch]), cold=True)
            clear(self.scratch)
            return
        other = tool.beside("-cold")
        try:
            other.init()
            self.timed("backup-cold", tool, lambda: other.backup(self.tree), cold=True, codes=tool.committed_codes)
        finally:
            clear(other.home)

    @step("changed", needed=True)
    def changed_backup(self, tool):
        """A second snapshot after a few changes, and the `diff` command over the two."""
        before = tool.repo_bytes()
        warm(self.tree)
        self.ready()
        self.add("changed", tool, tool.backup(self.tree).wall_secs)
        self.add("added", tool, (tool.repo_bytes() - before) / MIB)

    @step("diff")
    def diff_command(self, tool):
        """The tool's own comparison of the two newest snapshots."""
        self.timed("diff", tool, tool.diff(-2, -1), codes=(0, 1) if tool.name == "bakfs" else (0,))

    @step("mount")
    def mount_ready(self, tool):
        """Mounts anew a few times, each time with a copy of one small file right after."""
        for _ in range(MOUNTS_PER_ROUND):
            self.ready()
            with tool.open_mount() as mount:
                self.add("mount", tool, mount.ready_secs)
                small = tool.in_mount(-1, self.small)
                target = self.dest / "small"
                self.timed("cp-small", tool, lambda: self.client(mount, "cp", small, target))
                if target.exists() and target.read_bytes() != self.small.read_bytes():
                    self.note("cp-small", tool, "the copy differs from the source")
                target.unlink(missing_ok=True)

    @step("cat-cold")
    def read_mount(self, tool):
        """Walks one snapshot and reads the dump through a new mount."""
        def rate(reads):
            return lambda outcome: reads * self.dump_bytes / 1e6 / outcome.wall_secs

        if tool is self.machine:
            if self.options.cold:
                self.timed("read-cold", tool, lambda: run(["cat", self.dump]), cold=True, value=rate(1))
            run(["cat", self.dump])
            self.timed("read-warm", tool, lambda: run(["cat"] + [self.dump] * WARM_READS), value=rate(WARM_READS))
            return
        with tool.open_mount() as mount:
            dump = tool.in_mount(-1, self.dump)
            if self.options.cold:
                self.timed("find", tool, lambda: self.client(mount, "find", self.root(tool), "-printf", FIND_FORMAT),
                           cold=True)
                cold = self.timed("cat-cold", tool, lambda: self.client(mount, "cat", dump), cold=True, value=rate(1))
                if cold and tool.name == "bakfs":
                    self.add_ceiling(cold.cpu_secs)
            if self.skip("cat-warm", tool):
                return
            if not self.client(mount, "cmp", dump, self.dump).ok:
                self.note("cat-warm", tool, "the dump in the mount differs from the source, or was not read in time")
            self.timed("cat-warm", tool, lambda: self.client(mount, "cat", *[dump] * WARM_READS), value=rate(WARM_READS))

    @step("cp-all")
    def copy_mount(self, tool):
        """Copies a whole snapshot out of a new mount, compares two snapshots in it, and asks what memory it took."""
        if tool is self.machine:
            warm(self.tree)
            clear(self.dest)
            self.timed("copy-warm", tool, lambda: run(["cp", "-a", self.tree, self.dest]))
            clear(self.dest)
            return
        with tool.open_mount() as mount:
            copied = compared = None
            if self.options.cold:
                clear(self.dest)
                copied = self.timed("cp-all", tool, lambda: self.client(mount, "cp", "-a", self.root(tool), self.dest),
                                    cold=True)
                if copied and not copied.stopped:
                    self.verify("cp-all", tool, self.dest / self.tree.name)
                clear(self.dest)
                compared = self.timed("diff-mount", tool, codes=(0, 1), cold=True,
                                      call=lambda: self.client(mount, "diff", "-rq", "--no-dereference",
                                                               self.root(tool, -2), self.root(tool)))
            if copied or compared:
                self.add("memory", tool, peak_rss_bytes(mount.pid) / MIB)
            if copied and copied.stopped:
                self.note("memory", tool, "after a cp -a that was stopped")

    @step("restore")
    def restore(self, tool):
        """Restores the newest snapshot with the tool's own command."""
        clear(self.dest)
        call = tool.restore(-1, self.dest)
        outcome = self.timed("restore", tool, call, cold=self.options.cold)
        if outcome and not outcome.stopped:
            self.add("restore-rss", tool, outcome.max_rss_bytes / MIB)
            self.verify("restore", tool, self.dest / self.tree.relative_to("/"))
        clear(self.dest)

    @step("check")
    def check(self, tool):
        """Reads and verifies everything stored."""
        self.timed("check", tool, tool.check, cold=self.options.cold)

    # Helpers of the steps

    def client(self, mount, *argv):
        """Returns the outcome of an ordinary command that reads the mount."""
        return run(argv, limit_secs=self.options.limit_secs, daemon_pid=mount.pid)

    def root(self, tool, place=-1):
        """Returns the working copy as a snapshot in the mount shows it."""
        return tool.in_mount(place, self.tree)

    def verify(self, key, tool, copy):
        """Remarks on a copy that has not as many entries and bytes as the source."""
        totals = tree_totals(copy) if copy.is_dir() else (0, 0)
        if totals != self.totals:
            self.note(key, tool, f"incomplete: {totals[0]} entries, {totals[1]} bytes instead of "
                                 f"{self.totals[0]} and {self.totals[1]}")

    def add_ceiling(self, reader_cpu_secs):
        """Adds what all cores could give if FUSE's reader and zstd's decoder shared them without loss.

        The reader's CPU is what `cat` used; the decoder's speed is the zstd program's on 256 KiB blocks,
        one per core at a time.
        """
        if not shutil.which("zstd"):
            return
        cores = os.cpu_count()
        argv = ["zstd", "-b1", "-e1", "-i1", "-B256KB", os.fspath(self.dump)]
        running = [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(cores)]
        rates = [re.findall(rb"([\d.]+) MB/s", child.communicate()[0]) for child in running]
        if not all(rates):
            return
        decoder_cpu_secs = cores * self.dump_bytes / 1e6 / sum(float(rate[-1]) for rate in rates)
        self.add("cat-ceiling", self.machine, self.dump_bytes / 1e6 * cores / (reader_cpu_secs + decoder_cpu_secs))

    def run_round(self, number):
        """Runs every step that feeds a wanted row once."""
        self.each(self.first_backup, machine=True)
        cold = self.options.cold
        if cold and self.wants("backup-cold"):
            self.each(self.cold_backup, machine=True)
        self.change_tree(number)
        self.each(self.changed_backup)
        if self.wants("diff"):
            self.each(self.diff_command)
        if self.wants("mount", "cp-small"):
            self.each(self.mount_ready)
        if self.wants("cat-cold", "cat-warm", "find"):
            self.each(self.read_mount, machine=True)
        if self.wants("cp-all", "diff-mount", "memory"):
            self.each(self.copy_mount, machine=True)
        if self.wants("restore", "restore-rss", "cp-all"):
            self.each(self.restore)
        if self.wants("check"):
            self.each(self.check)
