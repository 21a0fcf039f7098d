"""Alembic: a chain of migrations up, down and up again, with a lock of the session around each run, and two runs at once."""

import tempfile
import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import NullPool, create_engine, make_url, text

from check import URL, equal, run

ENGINE = create_engine(make_url(URL).set(drivername="postgresql+psycopg"), poolclass=NullPool)

ENV = """
from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=None, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
"""

MIGRATION = '''
revision, down_revision = "{number}", {before!r}

from alembic import context, op
import sqlalchemy as sa


def upgrade():
    op.create_table("t{number}", sa.Column("id", sa.Integer, primary_key=True), sa.Column("a", sa.Text))
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("CREATE TEMP TABLE moved ON COMMIT DROP AS SELECT n FROM generate_series(1, 10) n")
    op.execute("INSERT INTO t{number} (a) SELECT n::text FROM moved")
    with context.get_context().autocommit_block():
        op.create_index("i{number}", "t{number}", ["a"], postgresql_concurrently=True)


def downgrade():
    op.drop_table("t{number}")
'''


def configuration(place):
    place = Path(place)
    (place / "versions").mkdir()
    (place / "env.py").write_text(ENV)
    for number in range(1, 5):
        before = str(number - 1) if number > 1 else None
        (place / "versions" / f"{number}.py").write_text(MIGRATION.format(number=number, before=before))
    config = Config()
    config.set_main_option("script_location", str(place))
    return config


def migrate(place, step, target):
    config = configuration(place)
    with ENGINE.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(4711)"))
        connection.commit()
        config.attributes["connection"] = connection
        step(config, target)
        connection.commit()
        equal(connection.scalar(text("SELECT pg_advisory_unlock(4711)")), True)


def in_turn(step, target):
    with tempfile.TemporaryDirectory() as place:
        migrate(place, step, target)


def tables():
    with ENGINE.connect() as connection:
        return connection.scalar(text("SELECT count(*) FROM pg_tables WHERE tablename ~ '^t[0-9]$'"))


def up_and_down():
    in_turn(command.upgrade, "head")
    equal(tables(), 4)
    in_turn(command.downgrade, "2")
    equal(tables(), 2)
    in_turn(command.downgrade, "base")
    equal(tables(), 0)


def two_at_once():
    failures = []

    def one():
        try:
            in_turn(command.upgrade, "head")
        except Exception as failure:
            failures.append(failure)

    # Alembic keeps what it is at in globals: the second run is another session that waits for the lock.
    with ENGINE.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(4711)"))
        connection.commit()
        waiting = threading.Thread(target=one)
        waiting.start()
        waiting.join(0.3)
        equal(waiting.is_alive(), True)
        equal(tables(), 0)
        connection.execute(text("SELECT pg_advisory_unlock(4711)"))
        connection.commit()
    waiting.join()
    equal(failures, [])
    equal(tables(), 4)


run(up_and_down, two_at_once)
