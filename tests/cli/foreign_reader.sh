#!/usr/bin/env bash
# W8: somebody reads vault.db in one transaction for long, while much is written: nobody waits, the log stays within
# bounds or status names who keeps it, and once the reader has gone it is checked in.
# INDRA_READER_ROUNDS: how long it is written (default 30 rounds).
. "$INDRA_SOURCE/tests/cli/common.sh"
rounds=${INDRA_READER_ROUNDS-30}
expect 0 $i init
mkdir m
reader=
cleanup() {
  [[ -z $reader ]] || kill "$reader" 2>/dev/null || true
  $i unmount --force "$PWD/m" >/dev/null 2>&1 || true
}
trap cleanup EXIT
expect 0 $i mount --layout plain "$PWD/m"
echo before >m/before && sync m/before
mkfifo go
python3 - vault/vault.db >reader.out <<'P' &
import sqlite3, sys
db = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, isolation_level=None)
db.execute("BEGIN")
first = db.execute("SELECT count(*) FROM edges").fetchone()
print("begun", flush=True)
open("go").read()
assert db.execute("SELECT count(*) FROM edges").fetchone() == first, "it saw what came after it began"
db.execute("COMMIT")
print("well", flush=True)
P
reader=$!
for _ in $(seq 600); do
  grep -q begun reader.out && break
  sleep 0.1
done
grep -q begun reader.out || die "the reader did not begin"

status() { timeout 60 $i status --json | python3 -c 'import json, sys
j = json.load(sys.stdin)
print(j["space"]["wal"], j["blocking_reader"])'; }
slowest=0 largest=0 named=
for n in $(seq "$rounds"); do
  start=$(date +%s%N)
  timeout 60 bash -c 'for k in $(seq 20); do echo "$0 $k" >m/f$0-$k; done; mv m/f$0-1 m/g$0; rm m/f$0-2; head -c 200000 /dev/urandom >m/large; sync m/large; sync m/g$0' "$n" \
    || die "round $n did not end"
  took=$((($(date +%s%N) - start) / 1000000))
  ((took <= slowest)) || slowest=$took
  read -r wal pid <<<"$(status)"
  ((wal <= largest)) || largest=$wal
  [[ $pid != "$reader" ]] || named=yes
done
# Either it did no harm, or it is known by name.
if ((largest > 64 << 20)) && [[ ! $named ]]; then die "the log grew to $largest bytes, and nobody is named"; fi
[[ $named ]] || {  # at rest a checkpoint meets it
  for _ in $(seq 300); do
    read -r wal pid <<<"$(status)"
    [[ $pid == "$reader" ]] && named=yes && break
    sleep 0.1
  done
}
[[ $named ]] || die "the reader is not named"
$i status | grep -q "process $reader reads vault.db" || die "status does not name it for people"
echo go >go
wait "$reader" || { cat reader.out; die "the reader"; }
reader=
grep -q well reader.out || die "what it read"
# The log begins anew: it is checked in, and takes no more room than before.
small=
for _ in $(seq 600); do
  read -r wal pid <<<"$(status)"
  ((pid == 0)) && small=yes && break
  sleep 0.1
done
[[ $small ]] || die "somebody is still named"
for n in $(seq "$rounds"); do [[ $(cat "m/f$n-20") == "$n 20" && $(cat "m/g$n") == "$n 1" ]] || die "content of round $n"; done
echo "slowest round $slowest ms, log at most $largest bytes, the reader named: ${named:-no}"
expect 0 $i unmount "$PWD/m"
expect 0 $i fsck
