"""The NEF server's tests on a PostgreSQL of their own: `python -m tests.nef.try_postgres`.

It is made in a temporary folder, listens on a free port of the loopback address and is gone
afterwards; it needs PostgreSQL's programs and the package extra `postgres`.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

ENVIRONMENT = "NEF_TEST_DATABASE_URL"  # with {} where the name of a fresh database comes
TESTS = ("test_server_inventory", "test_server_subscriptions", "test_server_notifications",
         "test_server_scenario", "test_server_camara")  # fmt: skip


def programs() -> Path:
    """The folder of initdb and postgres; `SystemExit` that says what is missing."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    sys.exit("no initdb and postgres on PATH or in /usr/lib/postgresql: install PostgreSQL")


def account() -> str | None:
    """Whom the server runs as: PostgreSQL refuses to be root."""
    if os.getuid() != 0:
        return None
    known = {one.pw_name for one in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """The address of a fresh server, as host:port."""
    bin_, user = programs(), account()
    with tempfile.TemporaryDirectory(prefix="nef-postgres-") as parent:
        folder = Path(parent) / "data"
        folder.mkdir()
        if user is not None:
            os.chmod(parent, 0o755)
            shutil.chown(folder, user)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        initdb: list[str | Path] = [
            bin_ / "initdb",
            "-D",
            folder,
            "-U",
            "nef",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "-N",
        ]
        subprocess.run(initdb, check=True, user=user, stdout=subprocess.DEVNULL, cwd="/")
        command = [f"{bin_}/postgres", "-D", place, "-h", "127.0.0.1", "-p", str(port), "-k", place,
                   "-c", "fsync=off", "-c", "max_connections=200"]  # fmt: skip
        server = subprocess.Popen(command, user=user, stderr=subprocess.DEVNULL, cwd="/")
        try:
            ready: list[str | Path] = [
                bin_ / "pg_isready",
                "-h",
                "127.0.0.1",
                "-p",
                str(port),
                "-q",
                "-t",
                "1",
            ]
            while subprocess.run(ready).returncode:
                if server.poll() is not None:
                    sys.exit(f"postgres ended with {server.returncode}")
            yield f"127.0.0.1:{port}"
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)


def main() -> None:
    """Runs the tests; the exit status is theirs."""
    here = Path(__file__).parent
    chosen = [str(path) for name in TESTS if (path := here / f"{name}.py").exists()]
    with postgres() as address:
        url = f"postgresql://nef@{address}/{{}}"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *chosen, *sys.argv[1:]],
            env=os.environ | {ENVIRONMENT: url}, cwd=here.parents[1],
        )  # fmt: skip
        engine = sa.create_engine(url.format("postgres").replace("://", "+psycopg://"))
        with engine.connect() as connection:
            made = sa.text("SELECT count(*) FROM pg_database WHERE datname LIKE 'nef\\_%'")
            count = connection.execute(made).scalar_one()
        engine.dispose()
    print(f"{count} databases were made on PostgreSQL")
    sys.exit(done.returncode or count == 0)


if __name__ == "__main__":
    main()
