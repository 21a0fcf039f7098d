"""psql: scripts, \\copy, Ctrl-C, and what belongs to a session."""

import os
import pty
import re
import select
import subprocess
import tempfile
import time

from check import URL, equal, run

PSQL = ["psql", "--no-psqlrc", "--set=VERBOSITY=verbose", URL]
VERSION = int(re.search(r"\d+", subprocess.check_output(["psql", "--version"], text=True)).group())
PATIENCE_S = 30


def psql(script, *options):
    """The output of a script that must succeed."""
    done = subprocess.run([*PSQL, "-qAt", "--set=ON_ERROR_STOP=1", *options], input=script, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def a_script():
    equal(psql("SELECT 1\\; SELECT 2;\nSELECT 3 AS x \\gset\nSELECT :x + 1;"), ["1", "2", "4"])
    equal(*psql("\\echo :SERVER_VERSION_NUM\nSHOW server_version_num"))


def an_error_goes_on():
    done = subprocess.run([*PSQL, "-qAt"], input="SELECT 1/0; \nSELECT 'on';", text=True, capture_output=True)
    equal((done.stdout, "22012" in done.stderr), ("on\n", True))


def copy_both_ways():
    rows = "".join(f"{i}\ttext {i} \\\\ ü\t\\N\n" for i in range(20_000))
    with tempfile.TemporaryDirectory() as place:
        with open(f"{place}/in", "w") as file:
            file.write(rows)
        psql(f"CREATE TABLE copied (a int, b text, c int);\n\\copy copied FROM '{place}/in'\n\\copy copied TO '{place}/out'")
        with open(f"{place}/out") as file:
            equal(file.read() == rows, True)
    equal(psql("SELECT count(*), sum(a), count(c) FROM copied"), ["20000|199990000|0"])


def fetch_in_portions():
    equal(len(psql("\\set FETCH_COUNT 100\nSELECT * FROM generate_series(1, 5000)")), 5000)


def what_belongs_to_a_session():
    script = """
        SET search_path = pg_catalog; SELECT current_setting('search_path');
        BEGIN; SET search_path = public; ROLLBACK; SELECT current_setting('search_path');
        CREATE TEMP TABLE mine (a int); INSERT INTO mine VALUES (7); SELECT * FROM mine;
        PREPARE p (int) AS SELECT $1 * 2; EXECUTE p (21);
        DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 3); FETCH 2 FROM c; FETCH c;
        SELECT pg_try_advisory_lock(4711); SELECT pg_advisory_unlock(4711);
    """
    equal(psql(script), ["pg_catalog", "pg_catalog", "7", "42", "1", "2", "3", "t", "t"])
    equal(psql("SHOW search_path"), ['"$user", public'])


def listen_and_notify():
    told = psql("LISTEN here;\nNOTIFY here, 'hello';\nSELECT 1;")
    equal([line[:53] for line in told if "hello" in line], ['Asynchronous notification "here" with payload "hello"'])


def a_pipeline():
    # \startpipeline came with 18; before, it is pgbench that has libpq's pipelines.
    if VERSION >= 18:
        script = "\\startpipeline\nSELECT $1 \\bind 1 \\sendpipeline\nSELECT pg_sleep(0.1) \\bind \\sendpipeline\n\\syncpipeline\n"
        script += "SELECT $1 \\bind 3 \\sendpipeline\n\\endpipeline\n"
        equal(psql(script), ["1", "", "3"])


class Terminal:
    """psql as at a terminal: only there it goes on after Ctrl-C."""

    def __init__(self):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(PSQL_HISTORY="/dev/null", TERM="dumb", PAGER="cat")
            os.execvp("psql", [*PSQL, "--set=PROMPT1=ready> ", "--no-readline"])
        self.seen = ""

    def type(self, text):
        os.write(self.fd, text.encode())

    def expect(self, text):
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.seen:
            readable, _, _ = select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
            assert readable, f"no {text!r} in {self.seen!r}"
            self.seen += os.read(self.fd, 65536).decode()
        self.seen = self.seen[self.seen.index(text) + len(text) :]

    def end(self):
        self.type("\\q\n")
        _, status = os.waitpid(self.pid, 0)
        equal(os.waitstatus_to_exitcode(status), 0)


def until_it_sleeps(mark):
    deadline = time.monotonic() + PATIENCE_S
    sleeping = f"SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE '%{mark}%'"
    while psql(sleeping) != ["1"]:
        assert time.monotonic() < deadline, "the query never runs"


def ctrl_c():
    terminal = Terminal()
    terminal.expect("ready> ")
    terminal.type("SELECT pg_sleep(1000) AS ctrl_c_1;\n")
    until_it_sleeps("ctrl_c" + "_1")
    terminal.type("\x03")
    terminal.expect("57014: canceling statement due to user request")
    terminal.type("SELECT 'goes' || ' on';\n")
    terminal.expect("goes on")
    terminal.end()


run(
    a_script,
    an_error_goes_on,
    copy_both_ways,
    fetch_in_portions,
    what_belongs_to_a_session,
    listen_and_notify,
    a_pipeline,
    ctrl_c,
)
