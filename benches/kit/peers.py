"""Who is measured: a file in benches/peers for each."""

import glob
import os
import re
import shutil
import socket
import subprocess
import tomllib
from dataclasses import dataclass, field
from string import Template

from .process import Process, free_port, until

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
REPOSITORY = os.path.dirname(HERE)
POOL_SIZE = 20
CLIENTS_MAX = 25000


@dataclass(frozen=True)
class Variant:
    """How a pooler is set up; one process each."""

    workers: int = 1
    tls: bool = False
    scram: bool = False
    metrics: bool = False


@dataclass
class Endpoint:
    """Where clients connect, and whose process is looked at (none for PostgreSQL itself)."""

    name: str
    host: str
    port: int
    pid: int | None
    socket_directory: str
    process: Process | None = None
    # Where its metrics are, and the thread that answers, if it has one for that.
    metrics_url: str | None = None
    metrics_thread: str | None = None

    def stop(self):
        if self.process:
            self.process.stop()


@dataclass
class Peer:
    name: str
    data: dict
    program: str
    version: int | None = None
    lacks: dict = field(default_factory=dict)

    def start(self, postgres, variant):
        """A process of it, ready for clients."""
        place = os.path.join(postgres.place, f"{self.name}-{free_port()}")
        os.mkdir(place)
        runs_as = postgres.runs_as if self.data.get("as_postgres") else None
        if runs_as:
            os.chown(place, runs_as.pw_uid, runs_as.pw_gid)
        values = self.values(postgres, variant, place)
        fill = lambda text: Template(text).substitute(values)
        parts = [self.data, *self.parts(variant)]
        files = {self.data["file"]: "\n".join(part.get("config", "") for part in parts)} if "file" in self.data else {}
        for part in parts:
            files |= part.get("files", {})
        for name, text in files.items():
            with open(os.path.join(place, name), "w") as out:
                out.write(fill(text) + "\n")
        command = [fill(word) for part in parts for word in part.get("command", ())]
        process = Process(self.name, command, place, runs_as=runs_as)
        until(process, lambda: socket.create_connection(("127.0.0.1", values["port"]), 1).close() or True)
        pid = process.pid
        if "pid_file" in self.data:
            with open(fill(self.data["pid_file"])) as pid_file:
                pid = int(pid_file.read())
        metrics = fill(self.data.get("metrics_url", ""))
        return Endpoint(self.name, "127.0.0.1", values["port"], pid, place, process, metrics, self.data.get("metrics_thread"))

    def why_not(self, needs):
        """Which of these features it lacks; `None`: it has them all."""
        return next((self.lacks[feature] for feature in needs if feature in self.lacks), None)

    def parts(self, variant):
        for feature in ("tls", "scram", "metrics"):
            yield self.data.get("when" if getattr(variant, feature) else "unless", {}).get(feature, {})
        for since, part in self.data.get("since", {}).items():
            if self.version is not None and self.version >= int(since):
                yield part

    def values(self, postgres, variant, place):
        certificate, key = postgres.certificate() or ("", "")
        return {
            "program": self.program, "place": place, "port": free_port(), "http_port": free_port(),
            "user": postgres.user, "password": postgres.password, "verifier": postgres.verifier() if variant.scram else "",
            "postgres_host": postgres.place, "postgres_host_url": postgres.place.replace("/", "%2F"),
            "postgres_port": postgres.port, "postgres_socket": f"{postgres.place}/.s.PGSQL.{postgres.port}",
            "pool_size": POOL_SIZE, "clients_max": CLIENTS_MAX, "workers": variant.workers,
            "certificate": certificate, "key": key,
        }  # fmt: skip


class Direct:
    """PostgreSQL without a pooler, for comparison."""

    name = "direct"

    def start(self, postgres, variant):
        return Endpoint("direct", "127.0.0.1", postgres.port, None, postgres.place)

    def why_not(self, needs):
        return "no pooler" if "pooler" in needs else None


def find(wanted=None):
    """All that are there, and what was said about those that are not."""
    peers, missing = [Direct()], []
    for path in sorted(glob.glob(os.path.join(HERE, "peers", "*.toml"))):
        with open(path, "rb") as file:
            data = tomllib.load(file)
        name = data["name"]
        if wanted and name not in wanted:
            continue
        program = program_of(data)
        if program is None:
            missing.append(f"{name}: {data['program']} is not there{data.get('hint', '')}")
        else:
            peers.append(checked(name, data, program))
    # Sidepool first among the poolers, whatever the files are called.
    peers.sort(key=lambda peer: {"direct": 0, "sidepool": 1}.get(peer.name, 2))
    return peers, missing


def program_of(data):
    named = os.environ.get(data["name"].upper())
    inside = os.path.join(REPOSITORY, data["program"])
    if named or os.sep not in data["program"]:
        return shutil.which(named or data["program"], path=os.environ.get("PATH", "") + ":/usr/sbin")
    return inside if os.path.exists(inside) else None


def checked(name, data, program):
    version, lacks = None, dict(data.get("lacks", {}))
    if "version" in data:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20)
        found = re.search(data["version"], said.stdout + said.stderr)
        version = int(found[1]) if found else None
    for since, part in data.get("since", {}).items():
        if version is None or version < int(since):
            lacks |= {feature: f"not before version {since}, this is {version}" for feature in part.get("does", ())}
    return Peer(name, data, program, version, lacks)
