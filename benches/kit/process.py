"""Processes that a run starts, and ends by their id."""

import os
import signal
import socket
import subprocess
import time

READY_SECONDS = 30
STOP_SECONDS = 10


class Process:
    def __init__(self, name, arguments, place, runs_as=None, ends_with=signal.SIGTERM):
        self.name, self.ends_with = name, ends_with
        self.log = os.path.join(place, f"{name}.log")
        identity = {"user": runs_as.pw_uid, "group": runs_as.pw_gid, "extra_groups": []} if runs_as else {}
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(arguments, cwd=place, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **identity)
        self.pid = self.child.pid

    def is_alive(self):
        return self.child.poll() is None

    def said(self):
        with open(self.log, errors="replace") as log:
            return log.read()

    def stop(self):
        if not self.is_alive():
            return
        self.child.send_signal(self.ends_with)
        try:
            self.child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


def until(process, is_ready):
    """Waits until `is_ready` comes true without an exception, as long as the process lives."""
    end = time.monotonic() + READY_SECONDS
    while True:
        try:
            if is_ready():
                return
        except (OSError, RuntimeError):
            pass
        if not process.is_alive() or time.monotonic() > end:
            process.stop()
            raise RuntimeError(f"{process.name} did not start: {process.said().strip()[-2000:]}")
        time.sleep(0.05)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
