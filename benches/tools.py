"""The backup tools under comparison, each as the same few steps. Every tool encrypts; everything else is its default."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from measure import Mount, clear, must, run, tree_totals

PASSPHRASE = "side-by-side"


def find_program(name):
    """Returns the path of a program named by its environment variable (RESTIC, BORG, RUSTIC) or found on PATH, or None.

    A pyenv shim is resolved: its start-up would be charged to the tool.
    """
    path = os.environ.get(name.upper()) or shutil.which(name)
    if path and "/shims/" in path:
        found = subprocess.run(["pyenv", "which", name], capture_output=True, text=True)
        path = found.stdout.strip() if found.returncode == 0 else path
    return path


class Tool:
    """One tool with a repository and a cache of its own below a home folder.

    Snapshots are addressed by place: 0 is the oldest, -1 the newest.
    """

    name = ""
    # What it is found by, where that is another name.
    found_by = None
    options = ""
    background_mount = False

    # Exit codes of a backup that did commit its snapshot.
    committed_codes = (0,)

    def __init__(self, program, home, limit_secs):
        self.program = program
        self.limit_secs = limit_secs
        self.taken = 0
        self.known_ids = []
        self.home = Path(home)
        self.repo = self.home / "repo"
        self.cache = self.home / "cache"
        self.mountpoint = self.home / "mnt"
        self.env = dict(os.environ, HOME=str(self.home), XDG_CONFIG_HOME=str(self.home / "config"),
                        XDG_CACHE_HOME=str(self.cache), XDG_DATA_HOME=str(self.home / "data"), TZ="UTC")
        self.env.update({key: str(value) for key, value in self.settings().items()})

    def beside(self, suffix):
        """Returns the same tool with another home folder: repository, cache and configuration of its own."""
        return type(self)(self.program, self.home.with_name(self.home.name + suffix), self.limit_secs)

    def settings(self):
        """Returns the environment the tool needs beside the common one."""
        return {}

    def version(self):
        """Returns the tool's own version line."""
        return run([self.program, "--version"], keep_output=True).output.strip().splitlines()[0]

    def call(self, *args, keep_output=False, cwd=None):
        """Returns the outcome of one command of the tool."""
        return run([self.program, *args], env=self.env, cwd=cwd, limit_secs=self.limit_secs, keep_output=keep_output)

    def init(self):
        """Makes a new repository with an empty cache; an earlier one is removed."""
        clear(self.home)
        self.taken = 0
        self.known_ids = []
        must(self.call(*self.init_args()), f"{self.name} init")

    def backup(self, path, time=None):
        """Returns the outcome of one backup; `time` (RFC 3339, UTC) dates the snapshot instead of the clock."""
        outcome = must(self.call(*self.backup_args(path, time)), f"{self.name} backup", self.committed_codes)
        self.taken += 1
        return outcome

    def open_mount(self):
        """Returns the mounted history."""
        return Mount([self.program, *self.mount_args()], self.mountpoint, self.listing(), env=self.env,
                     background=self.background_mount, limit_secs=self.limit_secs)

    def listing(self):
        """Returns the folder in the mount that holds one folder per snapshot."""
        return self.mountpoint

    def in_mount(self, place, source):
        """Returns where the mount shows `source`, an absolute path, as the snapshot at `place` holds it."""
        return self.listing() / self.names_in_mount()[place] / Path(source).relative_to("/")

    def repo_bytes(self):
        """Returns the repository's size as the sum of its files' lengths, the cache not counted."""
        return tree_totals(self.repo)[1]


class Bakfs(Tool):
    """bakfs, with the key file it makes by itself."""

    name = "bakfs"
    options = "defaults (AES-256, key file)"
    committed_codes = (0, 3)
    background_mount = True

    def settings(self):
        return {"BAKFS_REPO": self.repo, "BAKFS_CACHE_DIR": self.cache, "BAKFS_CONFIG_DIR": self.home / "config"}

    def init_args(self):
        return ["init"]

    def backup_args(self, path, time):
        return ["backup", *(["--time", time] if time else []), path]

    def mount_args(self):
        return ["mount", self.mountpoint]

    def names_in_mount(self):
        # Dated names sort by time; the other entries are links and the folders hosts and tags.
        return sorted(name for name in os.listdir(self.mountpoint) if name[:4].isdigit())

    def address(self, place):
        """Returns the snapshot at `place`, for the command line."""
        back = -1 - place if place < 0 else self.taken - 1 - place
        return f"latest~{back}" if back else "latest"

    def restore(self, place, target):
        """Returns a call that restores one snapshot below `target`, under its full source path."""
        address = self.address(place)
        return lambda: self.call("restore", address, target)

    def diff(self, old, new):
        """Returns a call that compares two snapshots; exit 1 says they differ."""
        old, new = self.address(old), self.address(new)
        return lambda: self.call("diff", old, new)

    def check(self):
        """Returns the outcome of reading and verifying everything stored."""
        return self.call("check", "--read-data")


class Restic(Tool):
    """restic, repository version 2 (compressed)."""

    name = "restic"
    options = "repository version 2, compression auto"
    committed_codes = (0, 3)

    def version(self):
        return run([self.program, "version"], keep_output=True).output.strip()

    def settings(self):
        return {"RESTIC_REPOSITORY": self.repo, "RESTIC_PASSWORD": PASSPHRASE, "RESTIC_CACHE_DIR": self.cache}

    def init_args(self):
        return ["init", "--repository-version", "2"]

    def backup_args(self, path, time):
        return ["backup", *(["--time", time.replace("T", " ").rstrip("Z")] if time else []), path]

    def mount_args(self):
        return ["mount", self.mountpoint]

    def listing(self):
        return self.mountpoint / "ids"

    def ids(self):
        """Returns the snapshots' ids, oldest first; asked of the tool again only after a backup."""
        if len(self.known_ids) == self.taken:
            return self.known_ids
        out = must(self.call("snapshots", "--json", keep_output=True), f"{self.name} snapshots").output
        self.known_ids = [s["id"] for s in sorted(_snapshots(json.loads(out)), key=lambda s: s["time"])]
        return self.known_ids

    def names_in_mount(self):
        return [name[:8] for name in self.ids()]

    def restore(self, place, target):
        chosen = self.ids()[place]
        return lambda: self.call("restore", chosen, "--target", target)

    def diff(self, old, new):
        ids = self.ids()
        return lambda: self.call("diff", ids[old], ids[new])

    def check(self):
        return self.call("check", "--read-data")


class Rustic(Restic):
    """rustic, defaults."""

    name = "rustic"
    options = "defaults (zstd)"
    committed_codes = (0,)

    def version(self):
        return run([self.program, "--version"], keep_output=True).output.strip()

    def settings(self):
        return {"RUSTIC_REPOSITORY": self.repo, "RUSTIC_PASSWORD": PASSPHRASE, "RUSTIC_CACHE_DIR": self.cache,
                "RUSTIC_NO_PROGRESS": "true", "RUSTIC_LOG_LEVEL": "warn"}

    def init_args(self):
        return ["init"]

    def backup_args(self, path, time):
        return ["backup", *(["--time", time.replace("T", " ").replace("Z", "+0000")] if time else []), path]

    def mount_args(self):
        return ["mount", "--path-template", "{id}", self.mountpoint]

    def listing(self):
        return self.mountpoint

    def restore(self, place, target):
        chosen = self.ids()[place]
        return lambda: self.call("restore", chosen, target)


class Borg(Tool):
    """borg 1.x, key in the repository under a passphrase."""

    name = "borg"
    options = "encryption repokey, compression lz4 (default)"
    committed_codes = (0, 1)
    background_mount = True

    def settings(self):
        return {"BORG_REPO": self.repo, "BORG_PASSPHRASE": PASSPHRASE, "BORG_BASE_DIR": self.home,
                "BORG_CACHE_DIR": self.cache}

    def init_args(self):
        return ["init", "--encryption", "repokey"]

    def names_in_mount(self):
        return [f"a{number:06}" for number in range(self.taken)]

    def backup_args(self, path, time):
        return ["create", *(["--timestamp", time.rstrip("Z")] if time else []), f"::a{self.taken:06}", path]

    def mount_args(self):
        return ["mount", "::", self.mountpoint]

    def restore(self, place, target):
        name = self.names_in_mount()[place]
        return lambda: self.call("extract", f"::{name}", cwd=target)

    def diff(self, old, new):
        names = self.names_in_mount()
        return lambda: self.call("diff", f"::{names[old]}", names[new])

    def check(self):
        return self.call("check", "--verify-data")


class BorgZstd(Borg):
    """borg 1.x with the compression that makes its repository as small as the others': zstd, level 3."""

    name = "borg-zstd"
    found_by = "borg"
    options = "encryption repokey, compression zstd,3"

    def backup_args(self, path, time):
        command, *rest = super().backup_args(path, time)
        return [command, "--compression", "zstd,3", *rest]


def _snapshots(value):
    """Yields the snapshot records in restic's flat list or rustic's grouped one."""
    if isinstance(value, dict) and "id" in value and "time" in value:
        yield value
    elif isinstance(value, dict):
        yield from _snapshots(value.get("snapshots", []))
    elif isinstance(value, list):
        for item in value:
            yield from _snapshots(item)


def known_tools(bakfs_program, home, limit_secs):
    """Returns the tools that are installed, by name, bakfs first."""
    programs = {Bakfs: bakfs_program if bakfs_program and Path(bakfs_program).is_file() else None}
    programs.update({kind: find_program(kind.found_by or kind.name) for kind in (Restic, Borg, BorgZstd, Rustic)})
    return {kind.name: kind(os.path.abspath(program), Path(home) / kind.name, limit_secs)
            for kind, program in programs.items() if program}
