"""The stores that instances share and the brokers of tasks, as Debian packages them: started in the run's folder,
emptied between measurements, ended by their id. And a Redis client that is just enough to look into one."""

import contextlib
import glob
import os
import pwd
import re
import signal
import socket
import subprocess
import time

import rig

STORE_CORE = rig.LOAD_CORE
# By the name under --stores.
TITLES = {
    "redis": "Redis, nothing on disk",
    "aof": "Redis, appendfsync everysec",
    "postgres": "Postgres, fsync and synchronous_commit on",
}


# Debian's own start script wants its own user; this is where what that one calls is.
RABBITMQ = "/usr/lib/rabbitmq/bin"


def postgres_program(name):
    """A program of the newest PostgreSQL that Debian installed; None if there is none."""
    return max(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), default=None)


def missing(stores):
    """Packages to install for these stores."""
    packages = []
    if {"redis", "aof"} & set(stores) and not (rig.tool("redis-server") and rig.tool("redis-benchmark")):
        packages += ["redis-server", "redis-tools"]
    if "postgres" in stores and not (postgres_program("postgres") and postgres_program("pgbench")):
        packages.append("postgresql")
    if "rabbitmq" in stores and not (os.path.exists(f"{RABBITMQ}/rabbitmq-server") and rig.tool("epmd")):
        packages.append("rabbitmq-server")
    return packages


class Store(rig.Server):
    """A server whose processor time includes that of its children that have ended."""

    def cpu(self):
        ticks = os.sysconf("SC_CLK_TCK")
        while True:
            # A session that ends meanwhile is among the ended ones the next time.
            with contextlib.suppress(OSError):
                running = super().cpu()
                own = rig.read(f"/proc/{self.process.pid}/stat").rpartition(")")[2].split()
                return running + (int(own[13]) + int(own[14])) / ticks
            if self.process.poll() is not None:
                rig.fail(f"{self.name} died: {rig.read(self.log)[-2000:]}")


class Redis(Store):
    """One that keeps everything in memory, or writes its log beside."""

    def __init__(self, folder, log=False):
        os.makedirs(folder)
        keeps = ["--appendonly", "yes", "--appendfsync", "everysec"] if log else ["--appendonly", "no"]
        port = rig.free_port()
        command = [
            rig.tool("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder,
            "--maxmemory-policy", "noeviction", *keeps]
        super().__init__("redis", command, port, STORE_CORE, folder)

    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def empty(self):
        with Client(self.port) as client:
            client.ask("FLUSHALL", "SYNC")
            client.ask("CONFIG", "RESETSTAT")


class Postgres(Store):
    """One as it comes, but for its port and its memory: what is committed is on the disk."""

    def __init__(self, folder):
        os.makedirs(folder)
        user = server_user()
        self.as_user = ["setpriv", f"--reuid={user[0]}", f"--regid={user[1]}", "--clear-groups"] if user else []
        if user:
            os.chown(folder, *user)
        self.data = f"{folder}/data"
        init = [*self.as_user, postgres_program("initdb"), "-U", "postgres", "-A", "trust", "-E", "UTF8",
                "--locale=C", "-D", self.data]
        made = subprocess.run(init, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
        if made.returncode != 0:
            rig.fail(f"initdb: {made.stderr[-2000:]}")
        port = rig.free_port()
        settings = [
            "listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=300", "shared_buffers=256MB",
            "max_wal_size=4GB", "fsync=on", "synchronous_commit=on", "log_parameter_max_length=-1"]
        command = [*self.as_user, postgres_program("postgres"), "-D", self.data, "-p", str(port)]
        for setting in settings:
            command += ["-c", setting]
        super().__init__("postgres", command, port, STORE_CORE, folder)

    def await_listening(self):
        super().await_listening()
        ready = [postgres_program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
        deadline = time.monotonic() + 30
        while subprocess.run(ready, timeout=10, check=False).returncode != 0:
            if time.monotonic() > deadline:
                rig.fail(f"postgres does not answer: {rig.read(self.log)[-2000:]}")
            time.sleep(0.05)

    def url(self):
        return f"postgres://postgres@127.0.0.1:{self.port}/postgres"

    def ask(self, *statements):
        """What psql prints, one row a line."""
        command = [postgres_program("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1",
                   "-p", str(self.port), "-U", "postgres", "-d", "postgres"]
        for statement in statements:
            command += ["-c", statement]
        said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if said.returncode != 0:
            rig.fail(f"psql: {said.stderr[-2000:]}")
        return said.stdout.splitlines()

    def empty(self):
        # A session outlives its client for as long as its last statement takes, and would be in the way of the drop.
        others = "from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
        deadline = time.monotonic() + 30
        self.ask(f"select pg_terminate_backend(pid) {others}")
        while self.ask(f"select count(*) {others}") != ["0"]:
            if time.monotonic() > deadline:
                rig.fail("sessions of Postgres do not end")
            time.sleep(0.05)
        self.ask("drop schema if exists onceward cascade", "checkpoint")

    def stop(self):
        # Without waiting for sessions to leave by themselves.
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=20)
        super().stop()


class RabbitMq(Store):
    """A broker of one node, with a port mapper of its own and no plugins."""

    patience = 120

    def __init__(self, folder):
        os.makedirs(folder)
        port, distribution, mapper = (rig.free_port() for _ in range(3))
        command = [rig.tool("epmd"), "-port", str(mapper), "-address", "127.0.0.1"]
        self.mapper = rig.Server("epmd", command, mapper, STORE_CORE, folder)
        with open(f"{folder}/plugins", "w", encoding="ascii") as file:
            file.write("[].\n")
        env = {
            # For the cookie that its programs know each other by.
            "HOME": folder, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin:/bin",
            "RABBITMQ_NODENAME": f"onceward-{port}@localhost", "RABBITMQ_MNESIA_BASE": f"{folder}/data",
            "RABBITMQ_LOG_BASE": f"{folder}/log", "RABBITMQ_GENERATED_CONFIG_DIR": f"{folder}/generated",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/none", "RABBITMQ_CONFIG_FILE": f"{folder}/none",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{folder}/none", "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_PID_FILE": f"{folder}/beam.pid", "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port), "RABBITMQ_DIST_PORT": str(distribution),
            "ERL_EPMD_PORT": str(mapper), "ERL_EPMD_ADDRESS": "127.0.0.1",
            # Its start script becomes the broker itself, so that its number is the broker's.
            "RABBITMQ_ALLOW_INPUT": "1",
        }
        try:
            super().__init__("rabbitmq", [f"{RABBITMQ}/rabbitmq-server", "-noinput"], port, STORE_CORE, folder, env)
        except BaseException:
            self.mapper.stop()
            raise

    def url(self):
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2f"

    def stop(self):
        # Its files go with the folder: nothing is to be written down in order.
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=20)
        self.mapper.stop()


def server_user():
    """PostgreSQL refuses to run as root: who it runs as then."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return user.pw_uid, user.pw_gid
    rig.fail("there is no user that PostgreSQL could run as")


def start(kind, folder):
    if kind == "postgres":
        return Postgres(f"{folder}/postgres")
    if kind == "rabbitmq":
        return RabbitMq(f"{folder}/rabbitmq")
    return Redis(f"{folder}/{kind}", log=kind == "aof")


class Said(Exception):
    """An error that Redis answered."""


class Client:
    """A Redis client over one connection."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.answers = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.answers.close()
        self.socket.close()

    def ask(self, *words):
        words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
        return self.answer()

    def answer(self):
        line = self.answers.readline()
        if not line.endswith(b"\r\n"):
            rig.fail("Redis closed its connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise Said(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.answers.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.answer() for _ in range(int(rest))]
        return rest.decode("latin-1")


ESCAPES = {"n": b"\n", "r": b"\r", "t": b"\t", "a": b"\a", "b": b"\b", "\\": b"\\", '"': b'"'}


def words(line):
    """The words of a line that MONITOR prints, as bytes."""
    found = []
    for quoted in re.findall(r'"((?:[^"\\]|\\.)*)"', line):
        parts = re.split(r"\\(x[0-9a-f]{2}|.)", quoted)
        word = parts[0].encode("latin-1")
        for escape, text in zip(parts[1::2], parts[2::2]):
            word += bytes([int(escape[1:], 16)]) if len(escape) == 3 else ESCAPES[escape]
            word += text.encode("latin-1")
        found.append(word)
    return found


def versions(stores):
    """What is measured, for the report."""
    found = {}
    if {"redis", "aof"} & set(stores):
        found["redis"] = rig.first_line([rig.tool("redis-server") or "redis-server", "--version"])
    if "postgres" in stores:
        found["postgres"] = rig.first_line([postgres_program("postgres") or "postgres", "--version"])
    if "rabbitmq" in stores:
        found["rabbitmq"] = rig.first_line(["dpkg-query", "-W", "rabbitmq-server"])
    return found

