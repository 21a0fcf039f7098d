"""psycopg 3: libpq's pipeline mode, prepared statements after some uses, COPY, server-side cursors."""

import contextlib
import threading
import time

import psycopg
from psycopg import errors

from check import CONSOLE_URL, MODE, URL, equal, run


def connect(**options):
    return psycopg.connect(URL, autocommit=True, **options)


def value(connection, sql, *arguments, **options):
    return connection.execute(sql, arguments, **options).fetchone()[0]


def fails(expected, call):
    try:
        call()
    except expected:
        return
    raise AssertionError(f"no {expected.__name__}")


def a_pipeline():
    for threshold in (0, 5, None):
        with connect(prepare_threshold=threshold) as connection, connection.pipeline() as pipeline:
            cursors = [connection.execute("SELECT %s::int", [i]) for i in range(20)]
            pipeline.sync()
            more = [connection.execute(f"SELECT %s::int + {i}", [0]) for i in range(20)]
            equal([cursor.fetchone()[0] for cursor in cursors + more], [*range(20), *range(20)])


def an_error_in_a_pipeline():
    with connect() as connection:
        with connection.pipeline() as pipeline:
            first = connection.execute("SELECT 1")
            pipeline.sync()
            equal(first.fetchone(), (1,))

            # Raised by whichever call is the first to hear of it.
            def both():
                bad = connection.execute("SELECT 1/0")
                after = connection.execute("SELECT 2")
                bad.fetchone()
                after.fetchone()

            fails(errors.DivisionByZero, both)
            # Of what came after the error and before this Sync it may hear only now.
            with contextlib.suppress(errors.PipelineAborted):
                pipeline.sync()
            equal(value(connection, "SELECT 3"), 3)
        equal(value(connection, "SELECT 4"), 4)


def transactions_in_a_pipeline():
    with connect() as connection:
        connection.execute("CREATE TABLE piped (a int PRIMARY KEY)")
        with connection.pipeline():
            with connection.transaction():
                connection.cursor().executemany("INSERT INTO piped VALUES (%s)", [(i,) for i in range(50)])

            def twice():
                with connection.transaction():
                    connection.execute("INSERT INTO piped VALUES (100)")
                    connection.execute("INSERT INTO piped VALUES (1)")

            fails(errors.UniqueViolation, twice)
        equal(value(connection, "SELECT count(*) FROM piped"), 50)


def a_prepared_statement_survives():
    with connect(prepare_threshold=0) as one, connect(prepare_threshold=0) as other:
        for i in range(10):
            equal(value(one, "SELECT %s::int * 10", i), i * 10)
            equal(value(other, "SELECT %s::int + 10", i), i + 10)
            equal(value(one, f"SELECT {i}", prepare=True), i)
        one.execute("DEALLOCATE ALL")
        equal(value(other, "SELECT %s::int + 10", 1), 11)
        equal(value(one, "SELECT %s::int * 10", 1, prepare=False), 10)


def nested_transactions():
    with connect() as connection:
        connection.execute("CREATE TABLE nested (a int)")
        with connection.transaction():
            connection.execute("INSERT INTO nested VALUES (1)")
            with connection.transaction(force_rollback=True):
                connection.execute("INSERT INTO nested VALUES (2)")

            def fail_inside():
                with connection.transaction():
                    connection.execute("SELECT 1/0")

            fails(errors.DivisionByZero, fail_inside)
            connection.execute("INSERT INTO nested VALUES (3)")
        equal(connection.execute("SELECT a FROM nested ORDER BY a").fetchall(), [(1,), (3,)])


def copy_both_ways():
    rows = [(i, f"text {i} ü", None) for i in range(20_000)]
    with connect() as connection:
        connection.execute("CREATE TABLE copied (a int, b text, c int)")
        for binary in ("", "(FORMAT BINARY)"):
            connection.execute("TRUNCATE copied")
            with connection.cursor().copy(f"COPY copied FROM STDIN {binary}") as copy:
                copy.set_types(["int4", "text", "int4"])
                for row in rows:
                    copy.write_row(row)
            with connection.cursor().copy(f"COPY copied TO STDOUT {binary}") as copy:
                copy.set_types(["int4", "text", "int4"])
                equal(list(copy.rows()) == rows, True)

        def not_a_number():
            with connection.cursor().copy("COPY copied FROM STDIN") as copy:
                copy.write_row(("no number", "", None))

        fails(errors.InvalidTextRepresentation, not_a_number)
        equal(value(connection, "SELECT count(*) FROM copied"), 20_000)


def server_side_cursors():
    with connect() as connection:
        with connection.transaction(), connection.cursor("inside") as cursor:
            cursor.execute("SELECT generate_series(1, %s)", [1000])
            cursor.itersize = 100
            equal(sum(row[0] for row in cursor), 500_500)
        with connection.cursor("outside", withhold=True) as cursor:
            cursor.execute("SELECT generate_series(1, 10)")
            equal(value(connection, "SELECT 7"), 7)
            equal(len(cursor.fetchall()), 10)


def what_belongs_to_a_session():
    with psycopg.connect(URL, autocommit=True, options="-c work_mem=5MB -c search_path=pg_catalog") as connection:
        equal(value(connection, "SHOW work_mem"), "5MB")
        equal(value(connection, "SHOW search_path"), "pg_catalog")
        connection.execute("SET TIME ZONE 'Asia/Tokyo'")
        equal(value(connection, "SHOW TimeZone"), "Asia/Tokyo")
        equal(connection.info.parameter_status("TimeZone"), "Asia/Tokyo")
        connection.execute("CREATE TEMP TABLE mine (a int); INSERT INTO mine VALUES (7)")
        equal(value(connection, "SELECT a FROM mine"), 7)
        equal(value(connection, "SELECT pg_try_advisory_lock(4712)"), True)
        equal(value(connection, "SELECT pg_advisory_unlock(4712)"), True)


def notifications():
    with connect() as connection, connect() as other:
        connection.execute("LISTEN here")
        other.execute("NOTIFY here, 'hello'")
        equal([n.payload for n in connection.notifies(timeout=30, stop_after=1)], ["hello"])


def cancel():
    with connect() as connection, connect() as watch:

        def when_it_sleeps():
            sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE '%%psycopg' || '_cancel%%'"
            while value(watch, sleeping) != 1:
                time.sleep(0.01)
            connection.cancel_safe()

        canceller = threading.Thread(target=when_it_sleeps)
        canceller.start()
        fails(errors.QueryCanceled, lambda: connection.execute("SELECT pg_sleep(1000) AS psycopg_cancel"))
        canceller.join()
        equal(value(connection, "SELECT 7"), 7)


def many_sessions():
    count = 100 if MODE == "transaction" else 8
    connections = [connect(prepare_threshold=0) for _ in range(count)]
    for _ in range(3):
        for i, connection in enumerate(connections):
            equal(value(connection, "SELECT %s::int", i), i)
    for connection in connections:
        connection.close()


def the_console():
    for autocommit in (True, False):
        for cursor in (psycopg.Cursor, psycopg.ClientCursor):
            with psycopg.connect(CONSOLE_URL, autocommit=autocommit, cursor_factory=cursor) as console:
                for binary in (False, True):
                    described = console.cursor(binary=binary) if cursor is psycopg.Cursor else console.cursor()
                    databases = described.execute("SHOW DATABASES").fetchall()
                    equal([column.name for column in described.description][:3], ["name", "host", "port"])
                    equal(type(databases[0][2]), int)
                    stats = described.execute("SHOW STATS").fetchone()
                    equal(stats[0] and stats[1] >= 0, True)
                fails(errors.ProtocolViolation, lambda: console.execute("SELECT now()"))
                console.rollback()
                equal(console.execute("SHOW STATE").fetchall()[1], ("paused", "no"))


run(
    a_pipeline,
    an_error_in_a_pipeline,
    transactions_in_a_pipeline,
    a_prepared_statement_survives,
    nested_transactions,
    copy_both_ways,
    server_side_cursors,
    what_belongs_to_a_session,
    notifications,
    cancel,
    many_sessions,
    *([the_console] if CONSOLE_URL else []),
)
