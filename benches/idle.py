#!/usr/bin/env python3
"""Memory of idle clients: RSS of a pooler before and after N plain connections, each of which ran one query.

    benches/idle.py PID PORT [clients, 2000]

The pooler must let user postgres in without a password (client_auth = "trust"); loopback only.
"""

import socket
import struct
import sys

pid, port = int(sys.argv[1]), int(sys.argv[2])
count = int(sys.argv[3]) if len(sys.argv) > 3 else 2000


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
print(f"{count} clients: {(idle - before) / count:.2f} KiB each after login, {(after - before) / count:.2f} KiB each after a query")
