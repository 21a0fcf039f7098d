#!/usr/bin/env python3
"""Logins by SCRAM-SHA-256: how many a second, and what each costs the pooler.

    benches/logins.py PID PORT USER PASSWORD [seconds, 5] [processes, 4]

Each client connects, proves its password, waits for ReadyForQuery, and leaves. The password's PBKDF2 is computed once, so
that the clients cost little; the pooler's figure is its CPU time, from /proc. Loopback, without TLS.
"""

import base64
import hashlib
import hmac
import multiprocessing
import os
import socket
import struct
import sys
import time

pid, port, user, password = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
seconds = float(sys.argv[5]) if len(sys.argv) > 5 else 5
processes = int(sys.argv[6]) if len(sys.argv) > 6 else 4
salted = {}


def mac(key, message):
    return hmac.digest(key, message, "sha256")


def message(connection):
    head = connection.recv(5, socket.MSG_WAITALL)
    if len(head) < 5:
        sys.exit("the pooler closed a connection")
    length = struct.unpack("!i", head[1:])[0] - 4
    body = connection.recv(length, socket.MSG_WAITALL) if length else b""
    if head[:1] == b"E":
        sys.exit("refused: " + body.decode(errors="replace"))
    return head[:1], body


def answer(connection, body):
    connection.sendall(b"p" + struct.pack("!i", len(body) + 4) + body)


def log_in():
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    startup = struct.pack("!i", 196608) + f"user\0{user}\0database\0postgres\0\0".encode()
    connection.sendall(struct.pack("!i", len(startup) + 4) + startup)
    message(connection)
    bare = b"n=,r=" + base64.b64encode(os.urandom(18))
    answer(connection, b"SCRAM-SHA-256\0" + struct.pack("!i", len(bare) + 3) + b"n,," + bare)
    first = message(connection)[1][4:]
    parts = dict(part.split(b"=", 1) for part in first.split(b","))
    known = (parts[b"s"], parts[b"i"])
    if known not in salted:
        salt, rounds = base64.b64decode(parts[b"s"]), int(parts[b"i"])
        salted[known] = mac(hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds), b"Client Key")
    key = salted[known]
    final = b"c=biws,r=" + parts[b"r"]
    signature = mac(hashlib.sha256(key).digest(), bare + b"," + first + b"," + final)
    proof = bytes(a ^ b for a, b in zip(key, signature))
    answer(connection, final + b",p=" + base64.b64encode(proof))
    while message(connection)[0] != b"Z":
        pass
    connection.sendall(b"X\0\0\0\4")
    connection.close()


def work(result):
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        log_in()
        count += 1
    result.put(count)


def cpu_seconds():
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


log_in()
results = multiprocessing.Queue()
before, start = cpu_seconds(), time.monotonic()
workers = [multiprocessing.Process(target=work, args=(results,)) for _ in range(processes)]
for worker in workers:
    worker.start()
total = sum(results.get() for _ in workers)
took, used = time.monotonic() - start, cpu_seconds() - before
print(f"{total / took:.0f} logins/s, {used / total * 1e6:.0f} µs of the pooler's CPU each: {total / used:.0f} per second of one core")
