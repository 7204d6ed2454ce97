#!/usr/bin/env bash
# Rules: each change that fits is one job, through kill -9 of the daemon; a stranger stopped inside a write transaction
# of coord.db delays nothing on the mount.
. "$INDRA_SOURCE/tests/cli/common.sh"
expect 0 $i init
printf x | $i put - :/before
expect 0 $i queue create jobs
expect 1 $i queue rule add r nowhere :/
says "there is no queue 'nowhere'"
expect 1 $i queue rule add r jobs :/ --kind creat
says "there is no kind of change creat"
expect 0 $i queue rule add r jobs :/ --kind create
# Without a daemon: the command relays what it did.
printf x | $i put - :/one
expect 0 $i queue claim jobs --worker w
grep -q '/one' out || { cat out; die "no job for what a command did"; }
! grep -q before out || die "a job for what was there before"
expect 0 $i queue ack 1 --worker w
[[ -r /dev/fuse && -w /dev/fuse ]] || exit 0
mkdir m
expect 0 $i mount --layout plain m
stranger=
trap '[[ -z $stranger ]] || kill -9 $stranger; fusermount3 -uz m 2>/dev/null || umount -l m 2>/dev/null || true' EXIT
daemon() { $i status --json | sed -n 's/.*"daemon": \([0-9]*\).*/\1/p'; }
for n in $(seq 100); do echo "$n" >"m/a$n"; done
$i sync
d=$(daemon)
kill -9 "$d"
soon ended "$d" || die "kill -9 did not end it"
expect 0 $i unmount m
expect 0 $i mount --layout plain m
# A stranger stops inside a write transaction, while rules want to be relayed.
if command -v sqlite3 >/dev/null; then
  mkfifo hold
  sqlite3 vault/coord.db <hold >held &
  stranger=$!
  exec 8>hold
  echo "BEGIN IMMEDIATE; CREATE TABLE strange(x); SELECT 'in';" >&8
  soon grep -q in held || die "no transaction"
  kill -STOP $stranger
fi
slowest=0 slow=0  # whoever waited for coord.db would do so in each round
for n in $(seq 60); do
  before=$(date +%s%N)
  echo "$n" >"m/b$n" && mv "m/b$n" "m/c$n" && sync "m/c$n" && rm "m/c$n" && cat m/a1 >/dev/null && ls m >/dev/null
  took=$((($(date +%s%N) - before) / 1000000))
  ((took > slowest)) && slowest=$took
  ((took < 4000)) || slow=$((slow + 1))
done
echo "slowest round beside the stopped stranger: $slowest ms"
((slow < 10)) || die "operations on the mount waited for coord.db: $slow of 60 rounds took 4 s or more"
if [[ -n $stranger ]]; then
  kill -9 $stranger
  stranger=
  exec 8>&-
fi
for n in $(seq 100); do echo "$n" >"m/d$n"; done
$i sync
# Every create is one job, none twice, none is missing.
$i queue work jobs --limit 260 --wait 100 -- sh -c 'cat; echo' >told
$i queue work jobs --once -- sh -c 'cat; echo' >>told
grep -o '"path":"[^"]*"' told | sort >paths
for n in $(seq 100); do
  same "$(grep -c "\"/a$n\"" paths)" 1
  same "$(grep -c "\"/d$n\"" paths)" 1
done
for n in $(seq 60); do same "$(grep -c "\"/b$n\"" paths)" 1; done
same "$(wc -l <paths)" 260
expect 0 $i queue rule remove r

# What was written just before the unmount has its job too.
expect 0 $i queue rule add r jobs :/ --kind create
echo last >m/last
expect 0 $i unmount m
same "$($i queue work jobs --once -- sh -c 'cat; echo' | grep -c '/last')" 1
