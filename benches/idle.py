#!/usr/bin/env python3
"""Memory of idle clients: RSS of a pooler before and after N connections, each of which ran one query.

    benches/idle.py [--tls] PID PORT [clients, 2000]

The pooler must let user postgres in without a password (client_auth = "trust"); loopback only.
"""

import socket
import ssl
import struct
import sys

arguments = [argument for argument in sys.argv[1:] if argument != "--tls"]
pid, port = int(arguments[0]), int(arguments[1])
count = int(arguments[2]) if len(arguments) > 2 else 2000
tls = None
if "--tls" in sys.argv:
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE


def rss_kib():
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def until_ready(connection):
    held = b""
    while True:
        got = connection.recv(8192)
        if not got:
            sys.exit("the pooler closed a connection: " + held.decode(errors="replace"))
        held += got
        if held[-6:-1] == b"Z\x00\x00\x00\x05":
            return


def connect():
    connection = socket.create_connection(("127.0.0.1", port))
    if tls:
        connection.sendall(struct.pack("!ii", 8, 80877103))
        if connection.recv(1) != b"S":
            sys.exit("the pooler has no TLS")
        connection = tls.wrap_socket(connection)
    body = struct.pack("!i", 196608) + b"user\0postgres\0database\0postgres\0\0"
    connection.sendall(struct.pack("!i", len(body) + 4) + body)
    until_ready(connection)
    return connection


warm = [connect() for _ in range(50)]
before = rss_kib()
clients = [connect() for _ in range(count)]
idle = rss_kib()
query = b"select 1\0"
for client in clients:
    client.sendall(b"Q" + struct.pack("!i", len(query) + 4) + query)
    until_ready(client)
after = rss_kib()
print(f"{count} {'TLS ' if tls else ''}clients: {(idle - before) / count:.2f} KiB each after login, {(after - before) / count:.2f} KiB each after a query")
