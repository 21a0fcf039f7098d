"""SQLAlchemy over psycopg and, with asyncio, over asyncpg: its own pool above ours, and without one."""

import asyncio

from sqlalchemy import ForeignKey, NullPool, create_engine, exc, func, make_url, select, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload

from check import URL, equal, run

# psycopg takes libpq's words, asyncpg calls the same by another name.
PSYCOPG = make_url(URL).set(drivername="postgresql+psycopg")
SSLMODE = PSYCOPG.query.get("sslmode")
ASYNCPG = make_url(URL).set(drivername="postgresql+asyncpg", query={"ssl": SSLMODE} if SSLMODE else {})


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    posts: Mapped[list["Post"]] = relationship(cascade="all, delete-orphan")


class Post(Base):
    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))


def refused(call):
    try:
        call()
    except exc.IntegrityError:
        return
    raise AssertionError("no IntegrityError")


def exercise(engine):
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(User(email="a@b", posts=[Post(title=f"t{i}") for i in range(3)]))
        session.commit()
        user = session.scalars(select(User).options(selectinload(User.posts))).one()
        equal([post.title for post in user.posts], ["t0", "t1", "t2"])
        with session.begin_nested() as saved:
            session.add(User(email="undone"))
            session.flush()
            saved.rollback()
        session.add(User(email="a@b"))
        refused(session.commit)
        session.rollback()
        session.add_all(User(email=str(i)) for i in range(500))
        session.commit()
        equal(session.scalar(select(func.count()).select_from(User)), 501)
    # More often than psycopg waits before it prepares.
    for i in range(20):
        with engine.connect() as connection:
            equal(connection.scalar(text("SELECT CAST(:i AS int) + 1"), {"i": i}), i + 1)
    with engine.connect().execution_options(isolation_level="SERIALIZABLE") as connection:
        equal(connection.scalar(text("SHOW transaction_isolation")), "serializable")
    with engine.connect() as connection, connection.execution_options(stream_results=True, yield_per=100).begin():
        equal(sum(connection.scalars(text("SELECT generate_series(1, 1000)"))), 500_500)
    engine.dispose()


def with_a_pool_of_its_own():
    exercise(create_engine(PSYCOPG, pool_size=4, pool_pre_ping=True))


def without_one():
    exercise(create_engine(PSYCOPG, poolclass=NullPool))


def with_every_statement_prepared():
    exercise(create_engine(PSYCOPG, connect_args={"prepare_threshold": 0}))


async def over_asyncpg():
    for options in ({"pool_size": 4, "max_overflow": 4}, {"poolclass": NullPool}):
        engine = create_async_engine(ASYNCPG, **options)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
            await connection.run_sync(Base.metadata.create_all)
        sessions = async_sessionmaker(engine)

        async def one(i):
            async with sessions() as session, session.begin():
                session.add(User(email=f"{i}@once", posts=[Post(title=str(i))]))
                await session.flush()
                return await session.scalar(select(Post.title).join(User, User.id == Post.user_id).where(User.email == f"{i}@once"))

        # Without a pool each holds a connection, and in session mode a server: some wait.
        equal(await asyncio.gather(*(one(i) for i in range(50))), [str(i) for i in range(50)])
        async with engine.connect() as connection:
            equal(await connection.scalar(select(func.count()).select_from(Post)), 50)
        await engine.dispose()


run(with_a_pool_of_its_own, without_one, with_every_statement_prepared, over_asyncpg)
