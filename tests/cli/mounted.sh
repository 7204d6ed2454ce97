#!/usr/bin/env bash
# The verbs beside a mount: one daemon, found by whoever needs it.
. "$INDRA_SOURCE/tests/cli/common.sh"
[[ -r /dev/fuse && -w /dev/fuse ]] || exit 77
expect 0 $i init
gone() { soon ended "$1"; }
kill_hard() {
  local d
  d=$(pid)
  kill -9 "$d" && gone "$d" || die "kill -9 did not end it"
}
pid() { $i status --json | sed -n 's/.*"daemon": \([0-9]*\).*/\1/p'; }

expect 1 $i mount m
says "make it first"
mkdir m m2 m3
expect 0 $i mount m
[[ -d m/vault && -d m/branches ]] || die layout
same "$(stat -c %a vault/control.sock)" 600
echo one >m/vault/one
same "$($i cat :/one)" one
same "$($i cat m/vault/one)" one
printf two | $i put - m/vault/two
same "$(cat m/vault/two)" two
expect 2 $i cat m/.indra/status.json
$i status m | grep -q "^Mounted:   $PWD/m (branch main, layout vault)" || die status
daemon=$(pid)

# No more threads to be had: a command is told so, and the mount goes on. Root has no such limit.
if [[ $EUID != 0 ]]; then
  most=$(prlimit --pid "$daemon" --nproc --output SOFT --noheadings --raw)
  prlimit --pid "$daemon" --nproc=1:
  expect 1 $i ls :/
  says "too many commands at once"
  same "$(cat m/vault/one)" one
  prlimit --pid "$daemon" --nproc="$most":
  expect 0 $i ls :/
fi

# A second mount goes to the same daemon; branches and snapshots are found by path.
expect 1 $i mount m2
says "--locks daemon on both"
expect 1 $i mount m
expect 0 $i mount --read-only --layout plain m2
same "$(pid)" "$daemon"
same "$(cat m2/one)" one
same "$($i cat m2/one)" one
expect 0 $i branch create agent
expect 0 $i snapshot create s1
expect 0 $i mount --branch agent --layout plain m3
printf three | $i put - m3/three
same "$($i cat agent:/three)" three
same "$(cat m/branches/agent/three)" three
same "$($i cat m/branches/agent/three)" three
same "$($i cat m/snapshots/s1/two)" two
expect 1 $i put - m/snapshots/s1/x <<<x
expect 0 $i mv m/vault/two m/vault/deux
[[ -e m/vault/deux && ! -e m/vault/two ]] || die mv
for n in {1..30}; do # what a command has done is seen in the mount when it returns (M5)
  $i mv m/vault/deux "m/vault/d$n" && [[ -e m/vault/d$n && ! -e m/vault/deux ]] || die "mv $n"
  $i mv "m/vault/d$n" m/vault/deux && [[ -e m/vault/deux && ! -e m/vault/d$n ]] || die "mv back $n"
done
expect 0 $i unmount m3
expect 0 $i unmount m2
expect 1 $i unmount m2

# What is written through the mount is seen when it is published; import beside use.
mkdir src && for n in $(seq 200); do echo $n >src/$n; done
expect 0 $i import src m/vault/imported
diff -r src m/vault/imported
expect 0 $i export m/vault/imported exported
diff -r src exported

# Files that are open keep the mount, but not against force.
exec 7>m/vault/open
expect 1 $i unmount m
says "open files"
expect 0 $i unmount --force m
exec 7>&- || true
soon test ! -S vault/control.sock || # a user without fusectl cannot cut off
  die "the daemon is still there"

# unmount returns after the last commit: the vault is free at once.
expect 0 $i mount m
head -c 20000000 /dev/urandom >m/vault/big
cp m/vault/big copy
expect 0 $i unmount m
[[ ! -S vault/control.sock ]] || die "the daemon is still there"
$i cat :/big | cmp - copy

# A plain umount: the next mount waits for the last commit.
expect 0 $i mount m
head -c 20000000 /dev/urandom >m/vault/big2
cp m/vault/big2 copy
take_away() { if [[ $EUID == 0 ]]; then umount m; else fusermount3 -u m; fi; }
take_away
expect 0 $i mount m
cmp m/vault/big2 copy
expect 0 $i mount --branch main --read-only "$PWD/m2"  # the daemon lives on
for _ in 1 2 3 4 5; do
  take_away
  expect 0 $i mount m
done
expect 0 $i unmount m2

# Signals end it with everything committed.
for s in TERM INT HUP; do
  echo "$s" >m/vault/signal
  d=$(pid)
  kill -$s "$d"
  gone "$d" || die "SIG$s did not end it"
  same "$($i cat :/signal)" "$s"
  expect 0 $i mount m
done

# A daemon that died: unmount takes the mount away, mount repairs it.
kill_hard
expect 0 $i mount m
same "$(cat m/vault/one)" one
kill_hard
expect 0 $i unmount m
same "$($i cat :/one)" one

# In the foreground.
$i mount --foreground --layout plain m 2>fg.log &
fg=$!
soon test -e m/one || die "not mounted in the foreground"
expect 1 $i mount --foreground m2
says "leave out --foreground"
kill -TERM $fg
wait $fg || die "the foreground daemon failed"

# The default vault is made on first mount.
unset INDRAFS_VAULT
expect 0 $i mount m
[[ -e $XDG_DATA_HOME/indrafs/default/vault.db ]] || die "no default vault"
expect 0 $i unmount m
