"""As much of a PostgreSQL client as the workloads need that pgbench cannot do."""

import base64
import hashlib
import hmac
import os
import socket
import ssl
import struct

SSL_REQUEST = struct.pack("!ii", 8, 80877103)
TERMINATE = b"X\0\0\0\4"
# Where the body of a message is not looked at, this is how a reply ends.
READY = b"Z\0\0\0\5"


def message(tag, *parts):
    body = b"".join(parts)
    return tag + struct.pack("!i", len(body) + 4) + body


def startup(user, database="postgres"):
    body = struct.pack("!i", 196608) + f"user\0{user}\0database\0{database}\0\0".encode()
    return struct.pack("!i", len(body) + 4) + body


def query(text):
    return message(b"Q", text.encode() + b"\0")


def prepared(name, text):
    """Parse, Bind, Execute, Sync."""
    name = name.encode() + b"\0"
    parse = message(b"P", name, text.encode() + b"\0", struct.pack("!h", 0))
    bind = message(b"B", b"\0", name, struct.pack("!hhh", 0, 0, 0))
    return parse + bind + message(b"E", b"\0", struct.pack("!i", 0)) + message(b"S")


def client_tls():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Client:
    """Logged in by the constructor. Raises `OSError` where the other side refuses or goes."""

    def __init__(self, endpoint, user, password=None, tls=None):
        self.socket = socket.create_connection((endpoint.host, endpoint.port), 30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket.sendall(SSL_REQUEST)
            if self.socket.recv(1) != b"S":
                raise OSError("no TLS there")
            self.socket = tls.wrap_socket(self.socket)
        self.socket.sendall(startup(user))
        if password is not None:
            self.prove(password)
        self.until_ready()

    def ask(self, request):
        self.socket.sendall(request)
        self.until_ready()

    def until_ready(self):
        held = b""
        while not held.endswith((READY + b"I", READY + b"T", READY + b"E")):
            got = self.socket.recv(65536)
            if not got:
                raise OSError("the connection was closed: " + held[-300:].decode(errors="replace"))
            # Enough to know an ending, and an error, by.
            held = (held + got)[-1000:]
        if held.endswith(READY + b"E") or (held[:1] == b"E" and b"FATAL" in held):
            raise OSError("refused: " + held.decode(errors="replace"))

    def leave(self):
        self.socket.sendall(TERMINATE)
        self.socket.close()

    def prove(self, password):
        """SCRAM-SHA-256, whose costly part is done once for each salt: the clients shall cost little."""
        self.next_message()
        bare = b"n=,r=" + base64.b64encode(os.urandom(18))
        self.socket.sendall(message(b"p", b"SCRAM-SHA-256\0", struct.pack("!i", len(bare) + 3), b"n,,", bare))
        first = self.next_message()[1][4:]
        parts = dict(part.split(b"=", 1) for part in first.split(b","))
        key = client_key(password, parts[b"s"], int(parts[b"i"]))
        final = b"c=biws,r=" + parts[b"r"]
        signature = hmac.digest(hashlib.sha256(key).digest(), bare + b"," + first + b"," + final, "sha256")
        proof = bytes(a ^ b for a, b in zip(key, signature))
        self.socket.sendall(message(b"p", final, b",p=", base64.b64encode(proof)))

    def next_message(self):
        head = self.exactly(5)
        body = self.exactly(struct.unpack("!i", head[1:])[0] - 4)
        if head[:1] == b"E":
            raise OSError("refused: " + body.decode(errors="replace"))
        return head[:1], body

    def exactly(self, count):
        held = b""
        while len(held) < count:
            got = self.socket.recv(count - len(held))
            if not got:
                raise OSError("the connection was closed")
            held += got
        return held


KEYS = {}


def client_key(password, salt, rounds):
    if (password, salt, rounds) not in KEYS:
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), rounds)
        KEYS[password, salt, rounds] = hmac.digest(salted, b"Client Key", "sha256")
    return KEYS[password, salt, rounds]
