"""Many clients at the same moment, in front of a pool that has no server yet."""

import errno
import selectors
import socket
import time

from . import wire
from .pgbench import percentile

LIMIT_SECONDS = 60


class Arrival:
    """## Connecting => LoggingIn => Asking => Served"""

    def __init__(self, endpoint, user):
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.start, self.took, self.held = time.monotonic(), None, b""
        self.hello = wire.startup(user)
        self.next = self.log_in
        code = self.socket.connect_ex((endpoint.host, endpoint.port))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, "cannot connect")

    def log_in(self):
        code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, "cannot connect")
        self.socket.send(self.hello)
        self.next = self.ask

    def ask(self):
        if self.hears_ready():
            self.socket.send(wire.query("select 1"))
            self.next = self.finish

    def finish(self):
        if self.hears_ready():
            self.took = time.monotonic() - self.start

    def hears_ready(self):
        got = self.socket.recv(8192)
        if not got:
            raise OSError("closed: " + self.held.decode(errors="replace"))
        self.held += got
        if self.held.endswith(wire.READY + b"I"):
            self.held = b""
            return True
        return False


def burst(endpoint, user, count):
    """How long each waits from its connect to the answer to its first query."""
    start, poll = time.monotonic(), selectors.EpollSelector()
    arrivals = [Arrival(endpoint, user) for _ in range(count)]
    waiting = set(arrivals)
    for arrival in arrivals:
        poll.register(arrival.socket, selectors.EVENT_WRITE, arrival)
    while waiting and time.monotonic() < start + LIMIT_SECONDS:
        for key, _ in poll.select(1):
            arrival = key.data
            was_connecting = arrival.next == arrival.log_in
            try:
                arrival.next()
            except OSError:
                waiting.discard(arrival)
                poll.unregister(arrival.socket)
                continue
            if was_connecting:
                poll.modify(arrival.socket, selectors.EVENT_READ, arrival)
            elif arrival.took is not None:
                waiting.discard(arrival)
                poll.unregister(arrival.socket)
    took = time.monotonic() - start
    for arrival in arrivals:
        arrival.socket.close()
    served = sorted(arrival.took * 1000 for arrival in arrivals if arrival.took is not None)
    waits = {"p50_ms": percentile(served, 0.5), "p99_ms": percentile(served, 0.99), "all_ms": took * 1000}
    return {"clients": count, "served": 100 * len(served) / count} | waits
