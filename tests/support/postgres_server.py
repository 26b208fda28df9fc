"""A real PostgreSQL of the tests' own: its data in a temporary folder, gone at the end."""

import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import psycopg

from storage import open_store

PASSWORD = "s3cr:t/p@ss?w#rd"  # signs that a URL has to escape
QUOTED_PASSWORD = "s3cr%3At%2Fp%40ss%3Fw%23rd"
DEBIAN = "/usr/lib/postgresql"
ACCOUNT = "postgres"  # initdb refuses to be root
# Nothing here has to survive a power cut.
SETTINGS = {
    "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off",
    "max_connections": "100", "shared_buffers": "32MB", "listen_addresses": "127.0.0.1",
}  # fmt: skip
START_S = 60.0
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class PostgresServer:
    """One server process; ``stop`` and ``start`` it at will."""

    def __init__(self, binaries, folder):
        self._binaries, self._folder = binaries, folder
        self._process = None
        self._admins = {}
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = int(probe.getsockname()[1])
        (folder / "password").write_text(PASSWORD)
        self._own()
        data = ["-D", str(folder / "data"), "-U", ACCOUNT, "--pwfile", str(folder / "password")]
        kind = ["--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8"]
        command = [str(binaries / "initdb"), *data, *kind, "--locale=C", "--no-sync"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, **_account())
        assert done.returncode == 0, done.stderr

    def start(self):
        options = {**SETTINGS, "port": str(self.port), "unix_socket_directories": self._folder}
        command = [str(self._binaries / "postgres"), "-D", str(self._folder / "data")]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        self._process = self._started(command)
        gives_up_at = time.monotonic() + START_S
        while subprocess.run(self._ready(), capture_output=True, check=False).returncode != 0:
            assert time.monotonic() < gives_up_at, self.log()
            time.sleep(0.05)
            if self._process.poll() is not None:  # children of one that was killed still run
                self._process = self._started(command)

    def _started(self, command):
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=_end_with_parent, **_account(),
            )  # fmt: skip

    def kill(self):
        """With -9, in the midst of whatever it does; its children end when they notice."""
        while self._admins:
            self._admins.popitem()[1].close()
        self._process.kill()
        self._process.wait(30)
        self._process = None

    def stop(self):
        """At once, connections cut."""
        while self._admins:
            self._admins.popitem()[1].close()
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)
            self._process = None

    def url(self, database, user=ACCOUNT, password=QUOTED_PASSWORD):
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def sql(self, statement, database=ACCOUNT):
        """Run a statement as the superuser, outside a transaction; its rows."""
        where = f"host={self._folder} port={self.port} user={ACCOUNT} dbname={database}"
        if database not in self._admins or self._admins[database].closed:
            self._admins[database] = psycopg.connect(where, autocommit=True)
        cursor = self._admins[database].execute(statement.encode())
        return cursor.fetchall() if cursor.description else []

    @contextmanager
    def database(self):
        """The URL of a blank database, dropped at the end of the block."""
        name = f"test_{secrets.token_hex(6)}"
        self.sql(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            self.sql(f"DROP DATABASE {name} WITH (FORCE)")

    def emptied(self):
        """The URL of one database, always the same, with the tables in it and no rows."""
        url, tables = self.url("emptied"), ("runs", "jobs")
        if not self.sql("SELECT 1 FROM pg_database WHERE datname = 'emptied'"):
            self.sql("CREATE DATABASE emptied")
            open_store(url).close()
        self.sql("; ".join(f"DELETE FROM {table}" for table in tables), "emptied")
        return url

    def log(self):
        return (self._folder / "log").read_text()

    def _ready(self):
        return [str(self._binaries / "pg_isready"), "-h", str(self._folder), "-p", str(self.port)]

    def _own(self):
        if _is_root():
            shutil.chown(self._folder, ACCOUNT)
            shutil.chown(self._folder / "password", ACCOUNT)


@contextmanager
def running_postgres():
    """A server for the block. Raises: LookupError when it cannot be had; the text says why."""
    reason = why_no_postgres()
    if reason is not None:
        raise LookupError(reason)
    binaries = _binaries()
    # Not pytest's folders: the server's account may not enter them, and a socket's path is short.
    with tempfile.TemporaryDirectory(prefix="sol-pg-", ignore_cleanup_errors=True) as folder:
        server = PostgresServer(binaries, Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


def why_no_postgres():
    """What is missing for a server here; None when nothing is."""
    if _binaries() is None:
        return f"no PostgreSQL server under {DEBIAN} or on the PATH: apt-get install postgresql"
    if _is_root():
        import pwd

        try:
            pwd.getpwnam(ACCOUNT)
        except KeyError:
            return f"PostgreSQL refuses to be run by root, and there is no user {ACCOUNT}"
    return None


def _binaries():
    found = sorted(Path(DEBIAN).glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    return Path(os.path.realpath(on_path)).parent if on_path else None


def _end_with_parent():
    """A test process that is killed leaves no server behind; Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)


def _is_root():
    return os.name == "posix" and os.geteuid() == 0


def _account():
    return {"user": ACCOUNT, "group": ACCOUNT, "extra_groups": []} if _is_root() else {}
