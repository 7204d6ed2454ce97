#!/usr/bin/env bash
# The vault's own work as jobs beside a mount: seen, not touched, going on without coord.db; snapshots by the clock.
. "$INDRA_SOURCE/tests/cli/common.sh"
[[ -r /dev/fuse && -w /dev/fuse ]] || exit 77
at_rest() { $i status --json | tr -d ' \n' | grep -q '"dead":0,"dirty_bytes":0,"patches":0'; }
churn() { # blocks overwritten and synced: patches, to be folded
  dd if=/dev/zero of="$1" bs=64k count=16 conv=fsync 2>/dev/null
  for n in $(seq 0 9 99); do head -c 4096 /dev/urandom | dd of="$1" bs=4096 seek="$n" conv=notrunc,fdatasync 2>/dev/null; done
}
expect 0 $i init
mkdir m
expect 0 $i mount --layout plain m
churn m/f
expect 0 $i put m/f m/g
expect 0 $i rm m/g
soon at_rest || die "the vault does not come to rest"
idle() { [[ $($i queue jobs indra:work) == "" ]]; }
soon idle || die "jobs are left: $($i queue jobs indra:work)"
done_with() { $i queue list | grep -Eq '^indra:work +0 ready, 0 delayed, 0 claimed, 0 dead; [1-9][0-9]* done'; }
soon done_with || die "$($i queue list)"

# It is the vault's own.
expect 1 $i queue push indra:work x
says "is the vault's own"
expect 1 $i queue claim indra:work --worker me
says "is the vault's own"
expect 1 $i queue delete indra:work
says "is the vault's own"
expect 1 $i schedule add s indra:work @daily x
says "is the vault's own"
expect 1 $i queue jobs nothing
says "there is no queue 'nothing'"

# How long the feed can be resumed.
$i config | grep -q '^changes.keep  *90d ' || die "config"
expect 2 $i config changes.keep yesterday
expect 2 $i config changes.keep 12:00
expect 2 $i config nothing
expect 0 $i watch --from 0 --once
expect 0 $i config changes.keep 1s
sleep 1.1
expect 0 $i config changes.keep 1s
forgotten() { ! $i watch --from 0 --once >out 2>err; }
soon forgotten || die "old changes are not forgotten"
says "are no longer kept; the oldest kept is"
oldest=$(sed -n 's/.*the oldest kept is \([0-9]*\).*/\1/p' err)
expect 0 $i watch --from "$((oldest - 1))" --once
grep -q "^ *$oldest " out || die "the oldest is not there"
expect 0 $i config changes.keep 90d

# Snapshots by the clock.
expect 1 $i snapshot schedule s '61 * * * *' --keep 2
says "minute 61 is not within 0-59"
expect 1 $i snapshot schedule s @hourly --keep 0
says "cannot be kept"
expect 1 $i snapshot schedule s @hourly --keep 2 --branch nowhere
says "there is no branch nowhere"
expect 0 $i snapshot create s-by-hand
expect 0 $i snapshot schedule s '@every 1s' --keep 2
made() { [[ $($i snapshot list | grep -c 's-20.*scheduled: s') == 2 ]]; }
soon made || die "$($i snapshot list)"
first=$($i snapshot list | sed -n 's/^\(s-20[^ ]*\).*/\1/p' | head -1)
later() { made && ! $i snapshot list | grep -q "^$first "; }
soon later || die "the oldest was not removed: $($i snapshot list)"
$i schedule list | grep -q '^snapshot:s ' || die "schedule list"
# A daemon that is killed: the next one goes on.
daemon=$($i status --json | sed -n 's/.*"daemon": \([0-9]*\).*/\1/p')
kill -9 "$daemon"
expect 0 $i mount --layout plain m
first=$($i snapshot list | sed -n 's/^\(s-20[^ ]*\).*/\1/p' | head -1)
soon later || die "after a kill: $($i snapshot list)"
expect 0 $i snapshot unschedule s
expect 1 $i snapshot unschedule s
says "there is no schedule"
left() { [[ $($i snapshot list | grep -c '^s-') == 3 ]]; }  # a job that was under way may still remove one
soon left || die "snapshots of the schedule: $($i snapshot list)"

# Somebody is stopped in a write transaction: nothing on the mount waits, and what is written is folded.
if [[ -x /usr/bin/python3 ]]; then
  /usr/bin/python3 -c '
import os, signal, sqlite3
db = sqlite3.connect("vault/coord.db", isolation_level=None, timeout=10)
db.execute("BEGIN IMMEDIATE")
db.execute("CREATE TABLE mine(x)")
open("inside", "w").close()
os.kill(os.getpid(), signal.SIGSTOP)' &
  stranger=$!
  soon test -e inside || die "no transaction"
  begin=$SECONDS  # whoever waited for coord.db would do so for seconds, each time
  for n in $(seq 50); do
    mkdir "m/d$n" && echo "$n" >"m/d$n/f" && mv "m/d$n/f" "m/d$n/g" && sync "m/d$n/g" && rm -r "m/d$n"
  done
  ((SECONDS - begin < 100)) || die "50 rounds took $((SECONDS - begin)) s"
  churn m/f
  soon at_rest || die "not at rest beside a stopped stranger"
  expect 0 $i unmount m
  kill -9 $stranger
  wait $stranger 2>/dev/null || true
else
  expect 0 $i unmount m
fi

# A coord.db that is none, and one that is missing: the vault mounts and works.
rm -f vault/coord.db*
head -c 20000 /dev/urandom >vault/coord.db
junk=$(sha256sum <vault/coord.db)
expect 0 $i mount --layout plain m
churn m/f
soon at_rest || die "not at rest beside a damaged coord.db"
expect 1 $i queue list
expect 0 $i unmount m
same "$(sha256sum <vault/coord.db)" "$junk"
grep -q "coord.db cannot be used" vault/daemon.log || die "the log does not tell"
rm -f vault/coord.db*
expect 0 $i mount --layout plain m
churn m/f
soon at_rest || die "not at rest without coord.db"
expect 0 $i unmount m
