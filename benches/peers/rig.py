"""What both programs here share: starting, watching and ending the processes, and one run of wrk."""

import contextlib
import json
import os
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
MODULES = "/usr/lib/nginx/modules"
PROXY_CORE, LOAD_CORE = "0", "1"
# A measurement during which other work had the proxy's core for more than this part of the time is doubtful.
SHARED = 0.05

# 300 bytes, the answer to every request.
ANSWER = json.dumps({"id": "row-48213", "state": "stored", "note": ""}, separators=(",", ":"))
ANSWER = ANSWER[:-2] + "n" * (300 - len(ANSWER)) + ANSWER[-2:]

PACKAGES = {"nginx": "nginx", "haproxy": "haproxy", "lua": "libnginx-mod-http-lua", "wrk": "wrk"}


def fail(why):
    sys.exit(f"{os.path.basename(sys.argv[0])}: {why}")


def tool(name):
    """The path of a program; Debian keeps servers in /usr/sbin, which is not on every PATH."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def missing(peers):
    """Packages to install for these peers; nginx and wrk are needed by all."""
    wanted = {"nginx", "wrk"} | (set(peers) & {"haproxy", "lua"})
    there = {name: tool(name) for name in ("nginx", "wrk", "haproxy")}
    there["lua"] = os.path.exists(f"{MODULES}/ngx_http_lua_module.so")
    return [PACKAGES[name] for name in sorted(wanted) if not there[name]]


def install(packages):
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    if os.geteuid() != 0:
        fail("missing, please install: " + " ".join(command))
    if not tool("apt-get"):
        fail("missing: " + " ".join(packages))
    print("installing " + " ".join(packages), file=sys.stderr)
    # Debian starts servers as it installs them; these are only wanted as programs.
    policy = "/usr/sbin/policy-rc.d"
    ours = not os.path.exists(policy)
    if ours:
        with open(policy, "w", encoding="ascii") as file:
            file.write("#!/bin/sh\nexit 101\n")
        os.chmod(policy, 0o755)
    try:
        quiet = {"stdout": subprocess.DEVNULL, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
        subprocess.run(["apt-get", "update"], timeout=300, check=False, **quiet)
        subprocess.run(command, timeout=600, check=True, **quiet)
    finally:
        if ours:
            os.unlink(policy)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


class Server:
    """One server of the run, alone on its core."""

    # Seconds in which it must listen.
    patience = 10

    def __init__(self, name, command, port, core, folder, env=None):
        self.name, self.port, self.log = name, port, f"{folder}/{name}.out"
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen(
                ["taskset", "-c", core, *command], stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=folder,
                env={**os.environ, **(env or {})})
        try:
            self.await_listening()
        except BaseException:
            self.stop()
            raise

    def await_listening(self):
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                fail(f"{self.name} ended with {self.process.returncode}: {read(self.log)[-2000:]}")
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        fail(f"{self.name} does not listen: {read(self.log)[-2000:]}")

    def pids(self):
        """The process and its workers."""
        found = [self.process.pid]
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                parent = int(read(f"/proc/{entry}/stat").rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == self.process.pid:
                found.append(int(entry))
        return found

    def cpu(self):
        """Seconds of CPU so far, user and system, over all threads of all its processes."""
        ticks = 0
        for pid in self.pids():
            fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def waited(self):
        """Seconds that its threads were ready to run but something else had their core."""
        waited = 0
        for pid in self.pids():
            for task in os.listdir(f"/proc/{pid}/task"):
                # Threads come and go, and not every kernel keeps count.
                with contextlib.suppress(OSError):
                    waited += int(read(f"/proc/{pid}/task/{task}/schedstat").split()[1])
        return waited / 1e9

    def memory(self, field="VmRSS"):
        """Resident MiB over all its processes: VmRSS now, VmHWM at the peak."""
        kib = 0
        for pid in self.pids():
            line = re.search(rf"^{field}:\s+(\d+) kB", read(f"/proc/{pid}/status"), re.M)
            kib += int(line.group(1)) if line else 0
        return kib / 1024

    def stop(self):
        if self.process.poll() is not None:
            return
        pids = self.pids()
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait(timeout=10)


class Rig:
    """The temporary folder, the upstream, and the proxies that are started in front of it."""

    def __init__(self, onceward, connections):
        self.onceward, self.connections = onceward, connections
        self.folder = tempfile.mkdtemp(prefix="onceward-peers-")
        # nginx started by root has workers of another user, who must reach this folder.
        os.chmod(self.folder, 0o755)
        self.servers = []

    def __enter__(self):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        os.sched_setaffinity(0, {int(LOAD_CORE)})
        try:
            self.upstream = self.start("upstream", LOAD_CORE)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for server in reversed(self.servers):
            server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, name, core=PROXY_CORE, memory=1024):
        """Fills in the configuration of a server and starts it; memory is its store's bound in MiB."""
        port = free_port()
        # Two of a kind may run at once, a server may watch its file, and a port may come again.
        folder = tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder)
        os.chmod(folder, 0o755)
        source, command = {
            "upstream": ("upstream.conf", ["nginx", "-p", folder, "-c"]),
            "nginx": ("nginx.conf", ["nginx", "-p", folder, "-c"]),
            "lua": ("lua.conf", ["nginx", "-p", folder, "-c"]),
            "haproxy": ("haproxy.cfg", ["haproxy", "-db", "-f"]),
            "onceward": ("onceward.toml", [self.onceward, "serve", "--config"]),
        }[name]
        values = {
            "PORT": port, "DIR": folder, "HERE": HERE, "MODULES": MODULES, "ANSWER": ANSWER, "MEMORY": memory,
            "UPSTREAM": "" if name == "upstream" else self.upstream.port,
        }
        text = read(f"{HERE}/{source}")
        for key, value in values.items():
            text = text.replace(f"@{key}@", str(value))
        target = f"{folder}/{source}"
        with open(target, "w", encoding="utf-8") as file:
            file.write(text)
        program = tool(command[0]) or command[0]
        server = Server(name, [program, *command[1:], target], port, core, folder)
        self.servers.append(server)
        return server

    def load(self, server, kind, seconds, **options):
        """One run of wrk against a proxy; what wrk saw and what the proxy spent on it."""
        options = {"kind": kind, "prefix": str(uuid.uuid4())[:24], "answer": len(ANSWER), "limit": 0, **options}
        # Several processes that act as one share the connections.
        ports = getattr(server, "ports", [server.port])
        command = [
            "taskset", "-c", LOAD_CORE, tool("wrk"), "-t", str(len(ports)), "-c", str(self.connections),
            "-d", f"{seconds}s", "--timeout", "5s", "-s", f"{HERE}/load.lua", f"http://127.0.0.1:{server.port}/", "--",
            *(f"{name}={value}" for name, value in options.items())]
        cpu, waited = server.cpu(), server.waited()
        run = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False,
                             env={**os.environ, "PORTS": " ".join(map(str, ports))})
        # A write that was under way when wrk left still ends, and belongs to this run.
        time.sleep(0.2)
        if server.process.poll() is not None:
            fail(f"{server.name} died during {kind}: {read(server.log)[-2000:]}")
        cpu, waited = server.cpu() - cpu, server.waited() - waited
        line = re.search(r"^RESULT (.*)$", run.stdout, re.M)
        if not line:
            fail(f"wrk against {server.name} failed: {run.stdout[-1000:]} {run.stderr[-1000:]}")
        seen = json.loads(line.group(1))
        if seen["requests"] == 0:
            fail(f"{server.name} answered nothing within {seconds} s of {kind}")
        elapsed = seen["microseconds"] / 1e6
        return {
            "cpu_us": cpu * 1e6 / seen["requests"], "rate": seen["requests"] / elapsed, "busy": cpu / elapsed,
            "waited": waited / elapsed,
            "p50_ms": seen["p50"] / 1000, "p99_ms": seen["p99"] / 1000, "rss": server.memory(),
            **{name: seen[name] for name in ("requests", "wrong", "refused", "broken", "sample")}}

    def fill(self, server, count, seconds=300, **options):
        """Sends that many fresh keyed POSTs; the prefix of their keys, and what was seen."""
        prefix = str(uuid.uuid4())[:24]
        # A few more, so that the last of the counted ones is surely answered.
        seen = self.load(server, "post", seconds, prefix=prefix, limit=count + 2 * self.connections, **options)
        if seen["requests"] < count:
            fail(f"{server.name} took {seen['requests']} of {count} requests in {seconds} s")
        return prefix, seen


def mistakes(name, seen):
    """Figures over wrong answers are worth nothing: what to say about a run that had some."""
    if not (seen["wrong"] or seen["broken"]):
        return []
    return [f"{name}: {seen['wrong']} wrong answers and {seen['broken']} broken connections "
            f"in {seen['requests']} requests; the first: {seen['sample']}"]


def median(rounds, name):
    """Over the rounds in which nothing else had the proxy's core, if there were any."""
    settled = [seen for seen in rounds if seen["waited"] <= SHARED]
    return statistics.median(seen[name] for seen in settled or rounds)


def quiet(runs):
    """A line about a machine that had other work, which makes every figure here doubtful."""
    shared = sum(1 for seen in runs if seen["waited"] > SHARED)
    if shared:
        yield ""
        yield (f"Other work had core {PROXY_CORE} for over {SHARED:.0%} of the time in {shared} of {len(runs)} measurements: "
               "repeat them on a quiet machine.")


def idle_part():
    """How much of the last second all cores together had nothing to do."""
    def sums():
        ticks = [int(field) for field in read("/proc/stat").split("\n", 1)[0].split()[1:]]
        return ticks[3], sum(ticks)
    before = sums()
    time.sleep(1)
    after = sums()
    return (after[0] - before[0]) / max(1, after[1] - before[1])


def await_quiet(until):
    while time.monotonic() < until and idle_part() < 0.9:
        pass


def verdict(measured, most):
    return "met" if measured <= most else "not met"


def first_line(command):
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "not there"
    return ((run.stdout + run.stderr).strip().splitlines() or ["unknown"])[0]


def environment(onceward):
    model = re.search(r"^model name\s*:\s*(.*)$", read("/proc/cpuinfo"), re.M)
    return {
        "kernel": platform.release(),
        "cpu": f"{model.group(1) if model else platform.machine()}, {os.cpu_count()} cores",
        "nginx": first_line([tool("nginx") or "nginx", "-v"]),
        "lua module": first_line(["dpkg-query", "-W", "libnginx-mod-http-lua"]),
        "haproxy": first_line([tool("haproxy") or "haproxy", "-v"]),
        "wrk": first_line([tool("wrk") or "wrk", "-v"]),
        "onceward": first_line([onceward, "--version"]),
    }


def check_cores():
    if not {int(PROXY_CORE), int(LOAD_CORE)} <= os.sched_getaffinity(0):
        fail(f"cores {PROXY_CORE} and {LOAD_CORE} are needed: one for the proxy, one for the load and the upstream")
