#!/usr/bin/env bash
# Sidepool against PgBouncer and a direct connection, under pgbench: select-only, a pool of 20, one worker.
#
#   benches/pgbench.sh [seconds per run, 5] [rounds, 3]
#
# The candidates take turns within each round, so that a machine that grows slow grows slow for all of them. Figures are
# medians over the rounds: transactions per second, latency average, CPU µs and syscalls of the pooler per transaction,
# and the ratio of its CPU to PgBouncer's. It starts a PostgreSQL of its own in a temporary directory (as the user
# postgres when run by root), speaks to loopback only, and ends what it started by pid. Wants: initdb, pgbench, bc; takes
# pgbouncer and perf if they are there.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-5} rounds=${2:-3}
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
pg_port=$((20000 + RANDOM % 10000)) pb_port=$((30000 + RANDOM % 10000))

cargo build --release --quiet
as_postgres initdb --pgdata "$place/data" --auth trust --username postgres --no-sync >/dev/null
as_postgres postgres -D "$place/data" -k "$place" -p "$pg_port" -c listen_addresses=127.0.0.1 -c fsync=off \
    -c max_connections=300 >"$place/postgres.log" 2>&1 &
until psql -h "$place" -p "$pg_port" -U postgres -c 'select 1' postgres >/dev/null 2>&1; do sleep 0.1; done
pgbench -h "$place" -p "$pg_port" -U postgres -i -s 10 -q postgres >/dev/null 2>&1

target/release/sidepool run --upstream "postgres://postgres@${place//\//%2F}:$pg_port/postgres" --client-auth trust \
    --client-tls off --listen-addresses 127.0.0.1 --session-port 0 --transaction-port 0 --workers 1 --pool-size 20 \
    >"$place/sidepool.log" 2>&1 &
pids+=($!) sidepool=$!
until grep -q 'sidepool ready' "$place/sidepool.log"; do sleep 0.1; done
sp_port=$(sed -n 's/.*listening *transaction.*:\([0-9]*\)$/\1/p' "$place/sidepool.log")

pgbouncer=
if command -v pgbouncer >/dev/null; then
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
    version=$(pgbouncer --version | sed -n 's/^PgBouncer 1\.\([0-9]*\).*/\1/p')
    if [ "$version" -ge 21 ]; then echo 'max_prepared_statements = 200' >>"$place/pgbouncer.ini"; fi
    as_postgres pgbouncer --quiet "$place/pgbouncer.ini" &
    until [ -s "$place/pgbouncer.pid" ]; do sleep 0.1; done
    pgbouncer=$(cat "$place/pgbouncer.pid")
    pids+=("$pgbouncer")
fi

ticks() { awk '{print $14 + $15}' "/proc/$1/stat"; }
tick_us=$((1000000 / $(getconf CLK_TCK)))

# One run: tps, latency in ms, CPU µs and syscalls per transaction ("-" where there is no pooler, or no perf).
run() {
    local pid=$1 host=$2 port=$3 mode=$4 clients=$5 out n tps latency before after calls=-
    if [ -n "$pid" ]; then
        before=$(ticks "$pid")
        if command -v perf >/dev/null; then
            perf stat -x, -e raw_syscalls:sys_enter -p "$pid" -o "$place/perf" -- sleep "$((seconds + 1))" >/dev/null 2>&1 &
        fi
    fi
    out=$(timeout $((seconds + 60)) pgbench -h "$host" -p "$port" -U postgres -S -M "$mode" -c "$clients" -T "$seconds" -n postgres 2>&1)
    n=$(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' <<<"$out")
    tps=$(sed -n 's/^tps = \([0-9.]*\).*/\1/p' <<<"$out")
    latency=$(sed -n 's/^latency average = \([0-9.]*\).*/\1/p' <<<"$out")
    if [ -z "$pid" ]; then echo "$tps $latency - -"; return; fi
    after=$(ticks "$pid")
    if command -v perf >/dev/null; then
        wait $! 2>/dev/null || true
        calls=$(sed -n 's/^\([0-9]*\),.*sys_enter.*/\1/p' "$place/perf")
        calls=$(bc -l <<<"scale=2; ${calls:-0} / $n")
    fi
    echo "$tps $latency $(bc -l <<<"scale=2; ($after - $before) * $tick_us / $n") $calls"
}

median() { sort -n | awk '{v[NR] = $1} END {print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2}'; }
column() { awk -v c="$2" '$c != "-" {print $c}' "$1" | median; }

printf '%-22s %-10s %10s %12s %12s %14s %10s\n' workload through tps 'latency ms' 'CPU us/tx' 'syscalls/tx' 'CPU ratio'
for mode in simple prepared; do
    for clients in 16 64; do
        candidates=("direct::$place:$pg_port" "sidepool:$sidepool:127.0.0.1:$sp_port")
        # Without shared statements pgbench -M prepared cannot run on more clients than servers.
        if [ -n "$pgbouncer" ] && { [ "$mode" = simple ] || [ "$version" -ge 21 ]; }; then
            candidates+=("pgbouncer:$pgbouncer:127.0.0.1:$pb_port")
        fi
        for _ in $(seq "$rounds"); do
            for candidate in "${candidates[@]}"; do
                IFS=: read -r name pid host port <<<"$candidate"
                run "$pid" "$host" "$port" "$mode" "$clients" >>"$place/$mode.$clients.$name"
            done
        done
        for candidate in "${candidates[@]}"; do
            name=${candidate%%:*} file=$place/$mode.$clients.${candidate%%:*} cpu=- calls=- ratio=-
            if [ "$name" != direct ]; then cpu=$(column "$file" 3) calls=$(column "$file" 4); fi
            if [ "$name" = sidepool ] && [ -f "$place/$mode.$clients.pgbouncer" ]; then
                ratio=$(bc -l <<<"scale=2; $cpu / $(column "$place/$mode.$clients.pgbouncer" 3)")
            fi
            printf '%-22s %-10s %10.0f %12.3f %12s %14s %10s\n' "$mode, $clients clients" "$name" \
                "$(column "$file" 1)" "$(column "$file" 2)" "$cpu" "${calls:--}" "$ratio"
        done
    done
done
