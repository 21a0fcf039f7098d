"""A PostgreSQL of the run's own, in a temporary directory."""

import glob
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile

from .process import Process, free_port, until

# Enough for 500 clients without a pooler, and the pools beside them.
CONNECTIONS_MAX = 700


def bin_directory():
    found = glob.glob("/usr/lib/postgresql/*/bin/initdb")
    if found:
        return os.path.dirname(max(found, key=lambda path: int(re.search(r"/(\d+)/bin", path)[1])))
    initdb = shutil.which("initdb")
    if not initdb:
        raise SystemExit("initdb is not there: install PostgreSQL's server programs")
    return os.path.dirname(initdb)


class Postgres:
    """Started by the constructor, ended by `stop`. Root may not run it: then it runs as the user postgres."""

    user = "postgres"
    password = "bench"

    def __init__(self):
        self.bin = bin_directory()
        self.place = tempfile.mkdtemp(prefix="sidepool-bench-")
        os.chmod(self.place, 0o755)
        self.runs_as = pwd.getpwnam("postgres") if os.getuid() == 0 else None
        if self.runs_as:
            os.chown(self.place, self.runs_as.pw_uid, self.runs_as.pw_gid)
        self.port = free_port()
        self.data = os.path.join(self.place, "data")
        self.process = None

    def start(self, scale):
        self.run("initdb", "--pgdata", self.data, "--auth", "trust", "--username", self.user, "--no-sync")
        arguments = ["postgres", "-D", self.data, "-k", self.place, "-p", str(self.port)]
        settings = {"listen_addresses": "127.0.0.1", "fsync": "off", "max_connections": CONNECTIONS_MAX} | self.tls_settings()
        arguments += [f"--{name}={value}" for name, value in settings.items()]
        arguments[0] = os.path.join(self.bin, arguments[0])
        # The fast way down: clients are not waited for.
        self.process = Process("postgres", arguments, self.place, runs_as=self.runs_as, ends_with=signal.SIGINT)
        until(self.process, lambda: self.sql("select 1"))
        self.sql(f"alter user {self.user} password '{self.password}'")
        self.run("pgbench", "-h", self.place, "-p", str(self.port), "-U", self.user, "-i", "-s", str(scale), "-q", "postgres")
        self.sql("create table copied (id int, filler text)")

    def stop(self):
        if self.process:
            self.process.stop()
        shutil.rmtree(self.place, ignore_errors=True)

    def certificate(self):
        """(certificate, key) for 127.0.0.1, or `None` where there is no openssl to make them with."""
        certificate, key = os.path.join(self.place, "bench.crt"), os.path.join(self.place, "bench.key")
        if not os.path.exists(key):
            if not shutil.which("openssl"):
                return None
            make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
            self.run("openssl", *make.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate)
            os.chmod(key, 0o600)
        return certificate, key

    def verifier(self):
        """What the server keeps of the password."""
        return self.sql(f"select rolpassword from pg_authid where rolname = '{self.user}'")

    def sql(self, text):
        return self.run("psql", "-h", self.place, "-p", str(self.port), "-U", self.user, "-AtX", "-c", text, "postgres")

    def run(self, program, *arguments):
        """One of its programs, as its user; its output. Fails with what the program said."""
        path = os.path.join(self.bin, program)
        path = path if os.path.exists(path) else program
        identity = {"user": self.runs_as.pw_uid, "group": self.runs_as.pw_gid} if self.runs_as else {}
        done = subprocess.run([path, *arguments], cwd=self.place, capture_output=True, text=True, timeout=120, **identity)
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout.strip()

    def tls_settings(self):
        made = self.certificate()
        return {"ssl": "on", "ssl_cert_file": made[0], "ssl_key_file": made[1]} if made else {}
