#!/usr/bin/env bash
# pgbench in every query mode, with libpq's pipelines, and with a new connection for each transaction.
set -euo pipefail

# In session mode a session needs a server for as long as it lives, and pgbench opens all of them before it begins.
if [ "$MODE" = session ]; then clients=8; else clients=100; fi
transactions=20

pgbench() {
    timeout 60 pgbench "$DATABASE_URL" "$@"
}

# All of them processed, none failed.
bench() {
    local name=$1 out all
    shift
    all=$((clients * transactions))
    out=$(pgbench --no-vacuum -c "$clients" -j 2 -t "$transactions" "$@" 2>&1) || { echo "$out" >&2; exit 1; }
    grep -q "transactions actually processed: $all/$all" <<<"$out" || { echo "$out" >&2; exit 1; }
    if grep 'number of failed transactions' <<<"$out" | grep -qv ': 0 '; then echo "$out" >&2; exit 1; fi
    echo "ok $name"
}

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cat >"$place/pipeline.sql" <<'SQL'
\set a random(1, 100000)
\startpipeline
SELECT abalance FROM pgbench_accounts WHERE aid = :a;
SELECT :a + 1;
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :a;
SELECT abalance FROM pgbench_accounts WHERE aid = :a;
\endpipeline
SQL

pgbench --initialize --quiet >/dev/null 2>&1 || pgbench --initialize
echo "ok initialize"
for mode in simple extended prepared; do
    bench "transactions, $mode" -M "$mode"
    bench "selects, $mode" -M "$mode" --select-only
done
bench "pipelines, extended" -M extended -f "$place/pipeline.sql"
bench "pipelines, prepared" -M prepared -f "$place/pipeline.sql"
for mode in simple prepared; do
    bench "a connection each, $mode" -M "$mode" --connect --select-only
done
