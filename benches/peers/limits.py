"""What a store itself can do of Onceward's steps, without Onceward: redis-benchmark and pgbench with the very steps that
an Onceward took, as they were heard.

One write (and one replay) goes through Onceward first. Redis tells by MONITOR which scripts it was asked for with which
arguments, Postgres writes its statements and their parameters into its log. The same is then asked for again and again,
each time for another record, and in the end the records themselves say whether all of it was done.
"""

import glob
import hashlib
import http.client
import os
import re
import resource
import socket
import subprocess
import threading
import time

import rig
import stores

# The steps of one operation, each a round trip.
TRIPS = {"post": 2, "put": 3, "replay": 1}
REPLAYED = 1000
# Seconds in which the sessions of pgbench start, and read the functions for the first time, before anything counts.
WARM = 3
BODY = re.search(r"^local BODY = (.*?)\n\n", rig.read(f"{rig.HERE}/load.lua"), re.M | re.S).group(1)
BODY = "".join(re.findall(r"'([^']*)'", BODY)).encode()
HEADERS = {"Authorization": "Bearer agent-4", "Content-Type": "application/json"}


def send(port, method, target, more=(), body=None):
    """One request, which must succeed; its headers."""
    asked = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        asked.request(method, target, body=body, headers={**HEADERS, **dict(more)})
        answer = asked.getresponse()
        got = answer.read()
        if answer.status not in (200, 201) or len(got) != len(rig.ANSWER):
            rig.fail(f"{method} {target} through {port}: {answer.status} {got[:300]}")
        return answer.headers
    finally:
        asked.close()


def samples(kind, first, second):
    """What one operation takes, as callables in turn; the last is the one that is listened to."""
    key = {"Idempotency-Key": "5f0c8c6e-0000-4000-8000-100000000001"}
    post = lambda port: send(port, "POST", "/tool/append_row", key, BODY)  # noqa: E731
    if kind == "post":
        return [lambda: post(first)]
    if kind == "replay":
        return [lambda: post(first), lambda: post(second)]
    tag = send(first, "GET", "/documents/1-1")["ETag"]
    return [lambda: send(first, "PUT", "/documents/1-1", {**key, "If-Match": tag}, BODY)]


class Heard:
    """What MONITOR tells while it is listened to."""

    def __init__(self, port):
        self.client, self.lines = stores.Client(port), []
        self.client.ask("MONITOR")
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self):
        for line in self.client.answers:
            self.lines.append(line.decode("latin-1"))

    def end(self):
        """A server that tells spends more on that than on a step."""
        self.client.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.client.__exit__()

    def until(self, port, word):
        """All lines before a word that is said now."""
        with stores.Client(port) as client:
            client.ask("ECHO", word)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for at, line in enumerate(self.lines):
                if f'"{word}"' in line:
                    found, self.lines = self.lines[:at], self.lines[at + 1:]
                    return [stores.words(one) for one in found if " lua]" not in one]
            time.sleep(0.01)
        rig.fail("MONITOR does not tell")


def lua_string(value):
    return '"' + "".join(f"\\{byte:03d}" for byte in value) + '"'


class RedisLimit:
    """redis-benchmark, one script for all steps of an operation: each call is the next step of them."""

    tool = "redis-benchmark"

    def __init__(self, store, kind, start):
        self.store, self.kind = store, kind
        heard = Heard(store.port)
        first, second = start(), start()
        try:
            asked = samples(kind, first.port, second.port)
            for one in asked[:-1]:
                one()
            known = {}
            for words in heard.until(store.port, "started"):
                if [word.upper() for word in words[:2]] == [b"SCRIPT", b"LOAD"]:
                    known[hashlib.sha1(words[2]).hexdigest().encode()] = words[2]
            asked[-1]()
            steps = [words for words in heard.until(store.port, "asked") if words[0].upper() == b"EVALSHA"]
            # A sign of life, or a sweep, is none of it.
            steps = [words for words in steps if len(words) > 5 and re.fullmatch(rb"[0-9a-f]{32}", words[5])]
        finally:
            heard.end()
            first.stop()
            second.stop()
        if len(steps) != TRIPS[kind]:
            rig.fail(f"{kind} took {len(steps)} scripts of Redis, not {TRIPS[kind]}")
        self.steps = [(known[words[1]].decode("latin-1"), words[3:]) for words in steps]
        self.prefix, self.id = steps[0][3], steps[0][5]
        self.prepare()

    def record(self, n):
        return self.prefix + b"r:" + b"%032x" % n

    def prepare(self):
        with stores.Client(self.store.port) as client:
            # The instances are gone; for what follows they live on.
            for instance in self.instances(client):
                client.ask("ZADD", self.prefix + b"alive", 1 << 52, instance)
                client.ask("SET", self.prefix + b"a:" + instance, "")
            if self.kind == "replay":
                value = client.ask("GET", self.prefix + b"r:" + self.id)
                for n in range(REPLAYED):
                    client.ask("SET", self.record(n), value)
            self.hash = client.ask("SCRIPT", "LOAD", self.script())
            # What an older server answered to a greeting is none of it.
            client.ask("CONFIG", "RESETSTAT")

    def instances(self, client):
        """Any of eight bytes among the arguments; a few too many do no harm."""
        return {word for _, words in self.steps for word in words if len(word) == 8} | {
            word for word in client.ask("ZRANGE", self.prefix + b"alive", 0, -1)}

    def script(self):
        """The steps' own code, behind the counting of which step it is, and with arguments that no command line takes."""
        if self.kind == "replay":
            which = "local n = tonumber(ARGV[#ARGV])\n"
        else:
            which = f"local n = redis.call('INCR', {lua_string(self.prefix + b'bench')}) - 1\n"
        code = which + f"local step = n % {len(self.steps)}\n"
        code += f"local id = string.format('%032x', (n - step) / {len(self.steps)})\n"
        for at, (body, words) in enumerate(self.steps):
            values = ", ".join("id" if word == self.id else lua_string(word) for word in words)
            code += f"if step == {at} then\nlocal ARGV = {{ {values} }}\n{body}\nend\n"
        return code.encode("latin-1")

    def run(self, connections, core, seconds):
        # So much goes over the wire, in so many words, as the steps have on the average.
        many = round(sum(len(words) for _, words in self.steps) / len(self.steps))
        size = round(sum(len(word) for _, words in self.steps for word in words) / len(self.steps))
        words = ["x" * max(1, (size - 12) // (many - 1))] * (many - 1) + ["__rand_int__"]
        command = ["taskset", "-c", core, rig.tool("redis-benchmark"), "-h", "127.0.0.1", "-p", str(self.store.port),
                   "-c", str(connections), "-r", str(REPLAYED), "--csv", "--precision", "3"]
        call = ["EVALSHA", self.hash, "0", *words]
        steps = len(self.steps)
        warm = self.once([*command, "-n", str(steps * 1000), *call])
        count = steps * max(1000, round(warm["rps"] * seconds / steps))
        done = steps * 1000 + count
        with Watch(self.store) as watch:
            seen = self.once([*command, "-n", str(count), *call])
        wrong, sample = self.mistakes(done // steps)
        # One step after the other: an operation waits for all of its own.
        return {"rate": seen["rps"] / steps, "p50_ms": seen["p50"] * steps, "p99_ms": seen["p99"] * steps,
                "requests": count // steps, "wrong": wrong, "sample": sample, **watch.per(count / steps)}

    @staticmethod
    def once(command):
        run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        rows = [line.replace('"', "").split(",") for line in run.stdout.splitlines() if line.startswith('"')]
        if run.returncode != 0 or len(rows) != 2 or "rror" in run.stdout:
            rig.fail(f"redis-benchmark: {run.stdout[-1000:]} {run.stderr[-1000:]}")
        seen = dict(zip(rows[0], rows[1]))
        return {"rps": float(seen["rps"]), "p50": float(seen["p50_latency_ms"]), "p99": float(seen["p99_latency_ms"])}

    def mistakes(self, operations):
        """How many of the records are not done."""
        count = REPLAYED if self.kind == "replay" else operations
        looked = ("local wrong = 0 for n = ARGV[2], ARGV[3] do "
                  "if redis.call('GETRANGE', ARGV[1] .. string.format('%032x', n), 1, 1) ~= 'D' "
                  "then wrong = wrong + 1 end end return wrong")
        with stores.Client(self.store.port) as client:
            wrong = sum(client.ask("EVAL", looked, 0, self.prefix + b"r:", start, min(start + 9999, count - 1))
                        for start in range(0, count, 10000))
            errors = re.findall(r"^errorstat_.*$", client.ask("INFO", "errorstats").decode(), re.M)
        if errors:
            return max(wrong, 1), " ".join(errors)
        return wrong, f"{wrong} records that are not done"


class PostgresLimit:
    """pgbench with the statements of an operation, one after the other, unprepared as Onceward's are."""

    tool = "pgbench"

    def __init__(self, store, kind, start):
        self.store, self.kind = store, kind
        first, second = start(), start()
        try:
            asked = samples(kind, first.port, second.port)
            for one in asked[:-1]:
                one()
            store.ask("alter system set log_statement = 'all'", "select pg_reload_conf()")
            time.sleep(0.5)
            begins = os.path.getsize(store.log)
            asked[-1]()
            with open(store.log, encoding="utf-8") as file:
                file.seek(begins)
                said = file.read()
            store.ask("alter system reset log_statement", "select pg_reload_conf()")
            time.sleep(0.5)
        finally:
            first.stop()
            second.stop()
        asked_for = r'execute [^:]*: (select \* from "?\w+"?\.(?:claim|commit)_.*)\n.*DETAIL:  parameters: (.*)'
        found = re.findall(asked_for, said)
        if len(found) != TRIPS[kind]:
            rig.fail(f"{kind} took {len(found)} statements of Postgres, not {TRIPS[kind]}: {said[-2000:]}")
        self.steps = [(statement, self.parameters(given)) for statement, given in found]
        self.id = self.steps[0][1][0]
        self.prepare()

    @staticmethod
    def parameters(given):
        return [None if quoted == "NULL" else quoted[1:-1]
                for quoted in re.findall(r"\$\d+ = (NULL|'(?:[^']|'')*')", given)]

    def prepare(self):
        # The instances are gone; for what follows they live on.
        self.store.ask("update onceward.instance set until = 'infinity', listens = false")
        if self.kind == "replay":
            columns = self.store.ask(
                "select string_agg(attname, ', ' order by attnum) from pg_attribute "
                "where attrelid = 'onceward.record'::regclass and attnum > 1 and not attisdropped")[0]
            self.store.ask(
                f"insert into onceward.record (id, {columns}) select lpad(to_hex(n), 32, '0')::uuid, {columns} "
                f"from onceward.record, generate_series(1, {REPLAYED}) n where id = '{self.id}'",
                "analyze onceward.record")
        self.script = f"{os.path.dirname(self.store.log)}/{self.kind}.sql"
        with open(self.script, "w", encoding="utf-8") as file:
            file.write(self.text())

    def text(self):
        """Constants stand in the statement, where Onceward has parameters; the id is one that was never there."""
        most = REPLAYED if self.kind == "replay" else 1 << 60
        lines = [f"\\set n random(1, {most})"]
        place = self.resource()
        for statement, values in self.steps:
            def value(at, values=values):
                given = values[int(at.group(1)) - 1]
                if given is None:
                    return "null"
                if given == self.id:
                    return "lpad(to_hex(:n::bigint), 32, '0')::uuid"
                if given == place:
                    return "lpad(to_hex(:client_id::bigint + 1), 32, '0')::uuid"
                return "'" + given + "'"
            lines.append(re.sub(r"\$(\d+)", value, statement) + ";")
        return "\n".join(lines) + "\n"

    def resource(self):
        """What takes turns, so that each client has its own; none where nothing does."""
        return self.steps[0][1][13] if self.kind == "put" else None

    def run(self, connections, core, seconds):
        folder = os.path.dirname(self.store.log)
        command = ["taskset", "-c", core, stores.postgres_program("pgbench"), "-n", "-M", "extended", "-h", "127.0.0.1",
                   "-p", str(self.store.port), "-U", "postgres", "-c", str(connections), "-j", "1", "-f", self.script]
        command += ["-T", str(WARM + seconds + 1), "-l", "--log-prefix", f"{folder}/took", "postgres"]
        before = self.done()
        bench = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            time.sleep(WARM)
            with Watch(self.store, Running(bench.pid)) as watch:
                begins = time.time()
                time.sleep(seconds)
                ends = time.time()
            out, error = bench.communicate(timeout=120)
        finally:
            bench.kill()
            bench.wait()
        processed = self.processed(bench.returncode, out, error)
        took = []
        for path in glob.glob(f"{folder}/took.*"):
            for line in rig.read(path).splitlines():
                _, _, lasted, _, second, micros, *_ = line.split()
                if begins <= int(second) + int(micros) / 1e6 < ends:
                    took.append(int(lasted) / 1000)
            os.unlink(path)
        if not took:
            rig.fail(f"pgbench did nothing in {seconds} s: {out[-1000:]}")
        took.sort()
        wrong = 0 if self.kind == "replay" else abs(self.done() - before - processed)
        return {"rate": len(took) / (ends - begins), "p50_ms": took[len(took) // 2],
                "p99_ms": took[len(took) * 99 // 100], "requests": len(took), "wrong": wrong, "sample": f"{wrong} records that are not done",
                **watch.per(len(took))}

    def done(self):
        return int(self.store.ask("select count(*) from onceward.record where phase = 2")[0])

    @staticmethod
    def processed(code, out, error):
        count = re.search(r"^number of transactions actually processed: (\d+)", out, re.M)
        failed = re.search(r"^number of failed transactions: (\d+)", out, re.M)
        if code != 0 or not count or (failed and failed.group(1) != "0"):
            rig.fail(f"pgbench: {out[-1000:]} {error[-2000:]}")
        return int(count.group(1))


def of(store, kind, start):
    limit = PostgresLimit if isinstance(store, stores.Postgres) else RedisLimit
    return limit(store, kind, start)


class Running:
    """A program that is still at work when it is looked at."""

    def __init__(self, pid):
        self.pid = pid

    def cpu(self):
        fields = rig.read(f"/proc/{self.pid}/stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Watch:
    """How busy the cores were meanwhile, with what of the servers, and with what that is none of ours."""

    def __init__(self, store, *servers):
        self.store, self.servers = store, servers

    def now(self):
        tools = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = resource.getrusage(resource.RUSAGE_SELF)
        busy = {}
        for line in rig.read("/proc/stat").splitlines():
            if re.match(r"cpu\d", line):
                name, *ticks = line.split()
                ticks = [int(field) for field in ticks[:8]]
                busy[name[3:]] = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
        return {"at": time.monotonic(), "busy": busy, "store": self.store.cpu(),
                "servers": sum(server.cpu() for server in self.servers),
                "tools": sum((tools.ru_utime, tools.ru_stime, own.ru_utime, own.ru_stime))}

    def __enter__(self):
        self.before = self.now()
        return self

    def __exit__(self, *_):
        self.after = self.now()

    def per(self, operations):
        def spent(name):
            return self.after[name] - self.before[name]
        took = spent("at")
        busy = {core: (self.after["busy"][core] - self.before["busy"][core]) / took for core in self.before["busy"]}
        ours = spent("store") + spent("servers") + spent("tools")
        return {"store_us": spent("store") * 1e6 / operations, "busy": busy,
                "others": max(0, sum(busy.values()) - ours / took)}
