"""asyncpg: it prepares everything under names of its own, looks types up by itself, and resets what its pool takes back."""

import asyncio
import datetime

import asyncpg

from check import CONSOLE_URL, MODE, URL, equal, run


async def connect(**options):
    return await asyncpg.connect(URL, **options)


async def refused(awaitable, expected):
    try:
        await awaitable
    except expected:
        return
    raise AssertionError(f"no {expected.__name__}")


async def queries_with_and_without_a_cache():
    for size in (100, 2, 0):
        connection = await connect(statement_cache_size=size)
        for i in range(20):
            equal(await connection.fetchval("SELECT $1::int", i), i)
            equal(await connection.fetchval(f"SELECT $1::int + {i}", 0), i)
        await connection.close()


async def types_are_looked_up():
    connection = await connect()
    await connection.execute(
        "DROP TYPE IF EXISTS mood, pair CASCADE; CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE TYPE pair AS (a int, b mood)"
    )
    equal(await connection.fetchval("SELECT $1::mood[]", ["good", "bad"]), ["good", "bad"])
    equal(tuple(await connection.fetchval("SELECT $1::pair", (1, "bad"))), (1, "bad"))
    day = datetime.date(2020, 2, 2)
    row = await connection.fetchrow("SELECT $1::date AS d, $2::jsonb AS j, $3::numeric AS n", day, '{"a": 1}', 7)
    equal((row["d"], row["j"], row["n"]), (day, '{"a": 1}', 7))
    await connection.close()


async def executemany():
    connection = await connect()
    await connection.execute("CREATE TABLE many (a int PRIMARY KEY, b text)")
    await connection.executemany("INSERT INTO many VALUES ($1, $2)", [(i, str(i)) for i in range(1000)])
    again = connection.executemany("INSERT INTO many VALUES ($1, $2)", [(5000, ""), (1, "")])
    await refused(again, asyncpg.UniqueViolationError)
    equal(await connection.fetchval("SELECT count(*) FROM many"), 1000)
    await connection.close()


async def transactions_and_savepoints():
    connection = await connect()
    await connection.execute("CREATE TABLE saved (a int)")
    async with connection.transaction(isolation="serializable"):
        await connection.execute("INSERT INTO saved VALUES (1)")
        try:
            async with connection.transaction():
                await connection.execute("INSERT INTO saved VALUES (2)")
                await connection.execute("SELECT 1/0")
        except asyncpg.DivisionByZeroError:
            pass
        await connection.execute("INSERT INTO saved VALUES (3)")
    equal([row["a"] for row in await connection.fetch("SELECT a FROM saved ORDER BY a")], [1, 3])
    await connection.close()


async def cursors():
    connection = await connect()
    async with connection.transaction():
        total = 0
        async for row in connection.cursor("SELECT generate_series(1, $1::int) AS n", 1000, prefetch=100):
            total += row["n"]
        equal(total, 500_500)
        cursor = await connection.cursor("SELECT generate_series(1, 10)")
        equal(len(await cursor.fetch(4)) + len(await cursor.fetch(100)), 10)
    await connection.close()


async def copy_both_ways():
    connection = await connect()
    await connection.execute("CREATE TABLE copied (a int, b text)")
    rows = [(i, f"text {i} ü") for i in range(20_000)]
    equal(await connection.copy_records_to_table("copied", records=rows), "COPY 20000")
    size = 0

    async def count(data):
        nonlocal size
        size += len(data)

    equal(await connection.copy_from_query("SELECT * FROM copied", output=count), "COPY 20000")
    equal(size, sum(len(f"{a}\t{b}\n".encode()) for a, b in rows))
    await connection.close()


async def a_pool_of_sessions():
    size = 50 if MODE == "transaction" else 8
    async with asyncpg.create_pool(URL, min_size=size, max_size=size, max_inactive_connection_lifetime=0) as pool:

        async def one(i):
            async with pool.acquire() as connection:
                await connection.execute(f"SET work_mem = '{i + 1}MB'")
                async with connection.transaction():
                    equal(await connection.fetchval("SELECT $1::int", i), i)
                equal(await connection.fetchval("SHOW work_mem"), f"{i + 1}MB")

        await asyncio.gather(*(one(i) for i in range(200)))
        equal({await pool.fetchval("SHOW work_mem") for _ in range(20)}, {"4MB"})


async def startup_parameters():
    connection = await connect(server_settings={"application_name": "mine", "work_mem": "5MB"})
    equal(await connection.fetchval("SHOW work_mem"), "5MB")
    equal(await connection.fetchval("SELECT current_setting('application_name')"), "mine")
    await connection.close()


async def listeners():
    connection, other = await connect(), await connect()
    heard = asyncio.get_running_loop().create_future()
    await connection.add_listener("here", lambda _connection, _pid, _channel, payload: heard.set_result(payload))
    await other.execute("NOTIFY here, 'hello'")
    equal(await asyncio.wait_for(heard, 30), "hello")
    await connection.close()
    await other.close()


async def a_timeout_cancels():
    connection, watch = await connect(), await connect()
    await refused(connection.execute("SELECT pg_sleep(1000) AS asyncpg_cancel", timeout=0.5), asyncio.TimeoutError)
    equal(await connection.fetchval("SELECT 7"), 7)
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE '%asyncpg' || '_cancel%'"
    equal(await watch.fetchval(sleeping), 0)
    await connection.close()
    await watch.close()


async def a_changed_table_is_noticed():
    connection = await connect()
    await connection.execute("CREATE TABLE changed (a int)")
    await connection.execute("INSERT INTO changed VALUES (1)")
    equal(tuple(await connection.fetchrow("SELECT * FROM changed")), (1,))
    await connection.execute("ALTER TABLE changed ADD b int DEFAULT 2")
    equal(tuple(await connection.fetchrow("SELECT * FROM changed")), (1, 2))
    await connection.close()


async def a_session_that_vanishes():
    connection = await connect()
    await connection.execute("BEGIN")
    await connection.execute("CREATE TABLE vanished (a int)")
    connection.terminate()
    connection = await connect()
    # The lock of the vanished one goes away with it.
    await connection.execute("CREATE TABLE vanished (a int)", timeout=30)
    await connection.close()


async def the_console():
    console = await asyncpg.connect(CONSOLE_URL)
    row = (await console.fetch("SHOW DATABASES"))[0]
    equal((type(row["name"]), type(row["port"]), row["force_user"]), (str, int, None))
    stats = await console.fetchrow("SHOW STATS")
    equal(int(stats["total_xact_count"]) > 0, True)
    async with console.transaction():
        equal((await console.fetchrow("SHOW VERSION"))["version"].split()[0], "Sidepool")
    equal(await console.execute("SET extra_float_digits = 3"), "SET")
    await console.close()


run(
    queries_with_and_without_a_cache,
    types_are_looked_up,
    executemany,
    transactions_and_savepoints,
    cursors,
    copy_both_ways,
    a_pool_of_sessions,
    startup_parameters,
    listeners,
    a_timeout_cancels,
    a_changed_table_is_noticed,
    a_session_that_vanishes,
    *([the_console] if CONSOLE_URL else []),
)
