"""Runs the cases of one client program, bounded in time: `ok NAME` for each that passes, and the end at the first that does not."""

import asyncio
import faulthandler
import inspect
import os
import sys
import traceback

URL = os.environ["DATABASE_URL"]
# `session` or `transaction`: with the first, no more sessions at once than the pool has servers.
MODE = os.environ["MODE"]
# Of Sidepool alone.
CONSOLE_URL = os.environ.get("CONSOLE_URL")
LIMIT_S = 90


def run(*cases):
    faulthandler.dump_traceback_later(LIMIT_S, exit=True)
    for case in cases:
        name = case.__name__.replace("_", " ")
        try:
            asyncio.run(case()) if inspect.iscoroutinefunction(case) else case()
        except BaseException:
            traceback.print_exc()
            sys.exit(f"failed: {name}")
        print("ok", name, flush=True)


def equal(actual, expected):
    assert actual == expected, f"{actual!r} instead of {expected!r}"
