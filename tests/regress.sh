#!/usr/bin/env bash
# PostgreSQL's own regression suite through port 6543: what passes directly has to pass there.
#
#   tests/regress.sh [parallel | serial | strict | isolation]…        (all four without an argument)
#
# parallel: up to 20 sessions at once on a pool of 16. serial: one session on a pool of one, while another client takes the
# server whenever it can, with settings of its own. strict: serial, with isolation = "strict". isolation: the isolation
# suite, up to nine sessions at once that wait for each other's locks, with home_servers (it asks PostgreSQL whether
# the process id it was told at login is blocked).
#
# The suite runs directly first, and what fails there (psql and the server may be of a later minor release than the
# sources) counts for nothing. The few differences that no pooler can avoid are in docs/compatibility.md. Wants: the server,
# psql and cc; gets pg_regress (postgresql-server-dev) and the sources from Debian, into target/regress. It starts a
# PostgreSQL and a Sidepool of its own, speaks to loopback only, and ends what it started by pid. SIDEPOOL_BINARY names
# another Sidepool than the release build.
set -euo pipefail
cd "$(dirname "$0")/.."
modes=("$@")
[ $# = 0 ] && modes=(parallel serial strict isolation)
# A server that somebody has used before (its pg_temp schema is there, a library is loaded, sessions are counted); the first
# currval in a later transaction.
unavoidable='^(temp|guc|stats|sequence)$'

bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)
major=$(basename "$(dirname "$bin")")
programs=$bin/../lib/pgxs/src/test
kept=$PWD/target/regress
place=$(mktemp -d) && chmod 755 "$place"
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    [ -f "$place/data/postmaster.pid" ] && kill -INT "$(head -1 "$place/data/postmaster.pid")" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$place"
}
trap finish EXIT

as_postgres() {
    if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}

# The suite's sources: of the installed release if Debian still has them, else of another minor release.
fetch_sources() {
    [ -d "$kept/regress" ] && [ -d "$kept/isolation" ] && return
    mkdir -p "$kept/lists"
    sed 's/^Types: deb$/Types: deb-src/' /etc/apt/sources.list.d/debian.sources >"$kept/src.sources"
    local apt=(-o "Dir::Etc::sourcelist=$kept/src.sources" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$kept/lists"
        -o APT::Sandbox::User=root)
    apt-get "${apt[@]}" -qq update
    local version
    for version in $(apt-cache "${apt[@]}" showsrc "postgresql-$major" | sed -n 's/^Version: //p' | sort -rV); do
        (cd "$kept" && apt-get "${apt[@]}" -qq source --download-only "postgresql-$major=$version") || continue
        rm -rf "$kept"/{unpacked,regress,isolation}
        mkdir "$kept/unpacked"
        tar -xf "$kept"/postgresql-"$major"_*.orig.tar.* -C "$kept/unpacked"
        mv "$kept/unpacked"/*/src/test/{regress,isolation} "$kept"
        rm -rf "$kept/unpacked"
        return
    done
    return 1
}

if [ ! -x "$programs/regress/pg_regress" ] || ! fetch_sources; then
    echo "PostgreSQL's regression suite cannot be had here: not run"
    exit 0
fi
cc -O1 -fPIC -shared -I"$("$bin/pg_config" --includedir-server)" -o "$kept/regress/regress.so" "$kept/regress/regress.c"
[ -n "${SIDEPOOL_BINARY:-}" ] || cargo build --release --quiet

# Where PostgreSQL's user can read and write.
mkdir "$place/suites"
cp -r "$kept/regress" "$kept/isolation" "$place/suites"
[ "$(id -u)" = 0 ] && chown postgres "$place"
pg_port=$((20000 + RANDOM % 10000))
as_postgres "$bin/initdb" --pgdata "$place/data" --auth trust --username postgres --no-sync >/dev/null
as_postgres "$bin/postgres" -D "$place/data" -k "$place" -p "$pg_port" -c listen_addresses= -c fsync=off \
    -c max_connections=100 -c max_prepared_transactions=5 >"$place/postgres.log" 2>&1 &
admin() { psql -h "$place" -p "$pg_port" -U postgres --no-psqlrc --quiet "$@"; }
until admin -c 'select 1' >/dev/null 2>&1; do sleep 0.1; done

# A database as pg_regress makes it, and nothing of an earlier run.
prepare() {
    local setting role space transaction
    # The test temp leaves one where a server's pg_temp schema was there before; a database with one cannot be dropped.
    for transaction in $(admin -At -c "select gid from pg_prepared_xacts where database = 'regression'"); do
        admin -d regression -c "rollback prepared '$transaction'"
    done
    admin -c 'set client_min_messages = warning' -c 'drop database if exists regression with (force)' \
        -c 'create database regression template template0'
    for setting in lc_messages=C lc_monetary=C lc_numeric=C lc_time=C bytea_output=hex timezone_abbreviations=Default; do
        admin -c "alter database regression set ${setting%=*} to '${setting#*=}'"
    done
    for role in $(admin -At -c "select rolname from pg_roles where rolname like 'regress%'"); do
        admin -c "drop role \"$role\"" 2>/dev/null || true
    done
    for space in $(admin -At -c "select spcname from pg_tablespace where spcname like 'regress%'"); do
        admin -c "drop tablespace \"$space\"" 2>/dev/null || true
    done
}

# A suite (regress or isolation) over this host and port; names of the tests that failed, one a line.
suite() {
    local suite=$1 name=$2 host=$3 port=$4 program=pg_regress schedule=parallel_schedule
    shift 4
    [ "$suite" = isolation ] && program=pg_isolation_regress schedule=isolation_schedule
    prepare
    mkdir -m 777 "$place/$name"
    (cd "$place/suites/$suite" && PATH=$bin:$PATH timeout 1200 "$programs/$suite/$program" --use-existing --dbname=regression --host="$host" \
        --port="$port" --user=postgres --inputdir=. --outputdir="$place/$name" --bindir="$bin" --dlpath="$place/suites/regress" \
        --schedule="$schedule" "$@" >"$place/$name/log" 2>&1) || true
    grep -q 'tests* *\(passed\|failed\)' "$place/$name/log" || { tail -20 "$place/$name/log" >&2; return 1; }
    sed -n 's/^\(test\)\{0,1\} *\([a-zA-Z0-9_.-]*\) *\.\.\. .*FAILED.*/\2/p' "$place/$name/log" | sort
}

# What of a suite passes without a pooler, once.
directly() {
    local suite=$1 tests
    [ -f "$place/direct-$suite.failed" ] && return
    suite "$suite" "direct-$suite" "$place" "$pg_port" >"$place/direct-$suite.failed"
    tests=$(grep -c ' \.\.\. ' "$place/direct-$suite/log")
    echo "$suite, directly: $((tests - $(wc -l <"$place/direct-$suite.failed"))) of $tests pass"
}

sidepool() {
    "${SIDEPOOL_BINARY:-target/release/sidepool}" run --upstream "postgres://postgres@${place//\//%2F}:$pg_port/postgres" --client-auth trust \
        --client-tls off --listen-addresses 127.0.0.1 --session-port off --transaction-port 0 --timeout-queue-wait 10min \
        "$@" >"$place/sidepool.log" 2>&1 &
    pids+=($!)
    until grep -q 'sidepool ready' "$place/sidepool.log"; do sleep 0.1; done
    sp_port=$(sed -n 's/.*listening *transaction.*:\([0-9]*\)$/\1/p' "$place/sidepool.log")
}

# Takes the server whenever it is free, and leaves settings of its own behind.
other_client() {
    while sleep 0.02; do
        psql -h 127.0.0.1 -p "$sp_port" -U postgres --no-psqlrc -d regression -c 'select 1' -c "set work_mem = '3MB'" \
            -c "set search_path = pg_catalog" -c 'select 2' >/dev/null 2>&1 || true
    done
}

worse=0
for mode in "${modes[@]}"; do
    suite=regress
    case $mode in
    parallel) flags=(--pool-size 16) arguments=() ;;
    serial) flags=(--pool-size 1) arguments=(--max-connections=1) ;;
    strict) flags=(--pool-size 1 --isolation strict) arguments=(--max-connections=1) ;;
    isolation) suite=isolation flags=(--pool-size 20 --home-servers true) arguments=() ;;
    *) echo "there is no mode $mode" >&2 && exit 2 ;;
    esac
    directly "$suite"
    sidepool "${flags[@]}"
    if [ "$mode" = serial ] || [ "$mode" = strict ]; then
        other_client &
        pids+=($!)
    fi
    suite "$suite" "$mode" 127.0.0.1 "$sp_port" "${arguments[@]}" >"$place/$mode.failed"
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    pids=()
    lost=$(comm -13 "$place/direct-$suite.failed" "$place/$mode.failed")
    tests=$(grep -c ' \.\.\. ' "$place/$mode/log")
    echo "through port 6543, $mode: $((tests - $(wc -l <"$place/$mode.failed"))) of $tests pass; not, and directly: ${lost//$'\n'/ }"
    for test in $(grep -vE "$unavoidable" <<<"$lost" || true); do
        worse=1
        sed "s/^/    /" < <(diff -U3 "$place/direct-$suite/results/$test.out" "$place/$mode/results/$test.out" | head -40 || true)
    done
done
exit $worse
