#!/usr/bin/env bash
# Sidepool against PgBouncer and a direct connection, under pgbench: select-only, a pool of 20, one worker.
#
#   [PGBOUNCER=path] benches/pgbench.sh [seconds per run, 5] [rounds, 3]
#
# The candidates take turns within each round, so that a machine that grows slow grows slow for all of them. Figures are
# medians over the rounds: transactions per second, the latency that half of the transactions and all but one in a hundred
# stay below, CPU µs and syscalls of the pooler per transaction; below them, Sidepool's divided by PgBouncer's and by those
# of the direct connection.
#
# It starts a PostgreSQL of its own in a temporary directory (as the user postgres when run by root), speaks to loopback
# only, and ends what it started by pid. Wants: initdb, pgbench; takes perf, and the pgbouncer of PGBOUNCER or in PATH, if
# they are there. Before 1.21, PgBouncer cannot share prepared statements and stays out of that workload.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-5} rounds=${2:-3}
# Of all transactions, this share is logged: enough for one in a hundred, and little work for pgbench.
sampled=0.2
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1 || true)
PATH=${bin:+$bin:}$PATH:/usr/sbin
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
    if [ "$(id -u)" = 0 ]; then runuser -u postgres -- env "PATH=$PATH" "$@"; else "$@"; fi
}
[ "$(id -u)" = 0 ] && chown postgres "$place"
# Until the rest of the arguments succeeds, as long as this process lives.
until_ready() {
    local pid=$1 log=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        kill -0 "$pid" 2>/dev/null || { echo "it did not start:" >&2; cat "$log" >&2; exit 1; }
        sleep 0.1
    done
}

pg_port=$((20000 + RANDOM % 10000)) pb_port=$((30000 + RANDOM % 10000))

cargo build --release --quiet
as_postgres initdb --pgdata "$place/data" --auth trust --username postgres --no-sync >/dev/null
as_postgres postgres -D "$place/data" -k "$place" -p "$pg_port" -c listen_addresses=127.0.0.1 -c fsync=off \
    -c max_connections=300 >"$place/postgres.log" 2>&1 &
until_ready $! "$place/postgres.log" psql -h "$place" -p "$pg_port" -U postgres -c 'select 1' postgres
pgbench -h "$place" -p "$pg_port" -U postgres -i -s 10 -q postgres >/dev/null 2>&1

target/release/sidepool run --upstream "postgres://postgres@${place//\//%2F}:$pg_port/postgres" --client-auth trust \
    --client-tls off --listen-addresses 127.0.0.1 --session-port 0 --transaction-port 0 --workers 1 --pool-size 20 \
    >"$place/sidepool.log" 2>&1 &
pids+=($!) sidepool=$!
until_ready "$sidepool" "$place/sidepool.log" grep -q 'sidepool ready' "$place/sidepool.log"
sp_port=$(sed -n 's/.*listening *transaction.*:\([0-9]*\)$/\1/p' "$place/sidepool.log")

pgbouncer=
program=${PGBOUNCER:-$(command -v pgbouncer || true)}
if [ -n "$program" ]; then
    cat >"$place/pgbouncer.ini" <<INI
[databases]
postgres = host=$place port=$pg_port user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $pb_port
auth_type = any
pool_mode = transaction
default_pool_size = 20
max_client_conn = 3000
unix_socket_dir =
logfile = $place/pgbouncer.log
pidfile = $place/pgbouncer.pid
log_connections = 0
log_disconnections = 0
INI
    # Since 1.21 it shares prepared statements between servers; earlier ones take no such setting.
    version=$("$program" --version 2>/dev/null | sed -n 's/^PgBouncer 1\.\([0-9]*\).*/\1/p') || true
    [ -n "$version" ] || { echo "$program is no PgBouncer that runs here" >&2; exit 1; }
    if [ "$version" -ge 21 ]; then echo 'max_prepared_statements = 200' >>"$place/pgbouncer.ini"; fi
    as_postgres "$program" --quiet "$place/pgbouncer.ini" 2>"$place/pgbouncer.err" &
    until_ready $! "$place/pgbouncer.err" test -s "$place/pgbouncer.pid"
    pgbouncer=$(cat "$place/pgbouncer.pid")
    pids+=("$pgbouncer")
fi

ticks() { awk '{print $14 + $15}' "/proc/$1/stat"; }
tick_us=$((1000000 / $(getconf CLK_TCK)))

# The value that this share of the lines stays below.
percentile() { sort -n | awk -v p="$1" '{v[NR] = $1} END {at = int(NR * p); print v[at < 1 ? 1 : at]}'; }

# One run: tps, p50 and p99 in ms, CPU µs and syscalls per transaction ("-" where there is no pooler, or no perf).
run() {
    local pid=$1 host=$2 port=$3 mode=$4 clients=$5 out n tps before=0 after=0 perf= cpu=- calls=-
    rm -f "$place"/log.*
    if [ -n "$pid" ]; then
        before=$(ticks "$pid")
        if command -v perf >/dev/null; then
            perf stat -x, -e raw_syscalls:sys_enter -p "$pid" -o "$place/perf" -- sleep "$((seconds + 1))" >/dev/null 2>&1 &
            perf=$!
        fi
    fi
    out=$(timeout $((seconds + 60)) pgbench -h "$host" -p "$port" -U postgres -S -M "$mode" -c "$clients" -T "$seconds" -n \
        --log --log-prefix="$place/log" --sampling-rate="$sampled" postgres 2>&1) || { echo "$out" >&2; return 1; }
    n=$(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' <<<"$out")
    tps=$(sed -n 's/^tps = \([0-9.]*\).*/\1/p' <<<"$out")
    if [ -n "$pid" ]; then
        after=$(ticks "$pid")
        cpu=$(awk "BEGIN {print ($after - $before) * $tick_us / $n}")
    fi
    if [ -n "$perf" ]; then
        wait "$perf" 2>/dev/null || true
        calls=$(awk -F, -v n="$n" '/sys_enter/ && $1 ~ /^[0-9]+$/ {print $1 / n}' "$place/perf")
    fi
    awk '{print $3 / 1000}' "$place"/log.* >"$place/latencies"
    echo "$tps $(percentile 0.5 <"$place/latencies") $(percentile 0.99 <"$place/latencies") $cpu ${calls:--}"
}

# Medians of the columns of a file, on one line.
medians() {
    local column
    for column in 1 2 3 4 5; do
        awk -v c="$column" '$c != "-" {print $c}' "$1" | sort -n |
            awk '{v[NR] = $1} END {printf "%s ", !NR ? "-" : NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2}'
    done
}

ratios() { awk -v a="$1" -v b="$2" 'BEGIN {split(a, x); split(b, y); for (i = 1; i <= 5; i++) printf "%s ", y[i] + 0 ? x[i] / y[i] : "-"}'; }

# What it is called, then the five figures with so many digits.
line() {
    awk -v name="$1" -v figures="$2" -v digits="$3" 'BEGIN {
        split(figures, f); split(digits, d)
        printf "%-24s", name
        for (i = 1; i <= 5; i++) printf " %11s", f[i] == "-" || f[i] == "" ? "-" : sprintf("%." d[i] "f", f[i])
        print ""
    }'
}

table() {
    local workload=$1 name
    shift
    printf '\n%-24s %11s %11s %11s %11s %11s\n' "$workload" tps 'p50 ms' 'p99 ms' 'CPU us/tx' 'syscalls/tx'
    declare -A found=()
    for name in "$@"; do
        found[$name]=$(medians "$place/$workload.$name")
        line "$name" "${found[$name]}" '0 3 3 2 2'
    done
    for name in pgbouncer direct; do
        [ -z "${found[$name]:-}" ] || line "sidepool / $name" "$(ratios "${found[sidepool]}" "${found[$name]}")" '2 2 2 2 2'
    done
}

for mode in simple prepared; do
    for clients in 16 64; do
        candidates=("direct::$place:$pg_port" "sidepool:$sidepool:127.0.0.1:$sp_port")
        # Without shared statements pgbench -M prepared cannot run on more clients than servers.
        if [ -n "$pgbouncer" ] && { [ "$mode" = simple ] || [ "$version" -ge 21 ]; }; then
            candidates+=("pgbouncer:$pgbouncer:127.0.0.1:$pb_port")
        fi
        workload="$mode, $clients clients"
        for _ in $(seq "$rounds"); do
            for candidate in "${candidates[@]}"; do
                IFS=: read -r name pid host port <<<"$candidate"
                run "$pid" "$host" "$port" "$mode" "$clients" >>"$place/$workload.$name"
            done
        done
        table "$workload" "${candidates[@]%%:*}"
    done
done
