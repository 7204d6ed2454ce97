#!/usr/bin/env bash
# D6, D7: the disk is full at one point after the other of an import, of a large write and of a delete: truly full, not
# only as full as S10 lets it get. It is reported, nothing that was there is harmed, and once there is room work goes on
# without a restart. Each operation of the disk in turn: Faults.EachOperationFailsInTurn. Needs root, for a small disk.
# INDRA_POINTS: how many points of each (default 3).
. "$INDRA_SOURCE/tests/cli/common.sh"
[[ -r /dev/fuse && -w /dev/fuse ]] || exit 77
((EUID == 0)) || exit 77
points=${INDRA_POINTS-3}
truncate -s 96M image && mkdir disk m
cleanup() {
  timeout 60 "$i" --vault disk/v unmount --force m >/dev/null 2>&1 || fusermount3 -uz m 2>/dev/null || true
  umount disk 2>/dev/null || umount -l disk
}
if ! { /sbin/mkfs.ext4 -q -m 0 image && mount -o loop image disk; } 2>/dev/null; then
  mount -t tmpfs -o size=96m none disk || exit 77
fi
trap cleanup EXIT
expect 0 $i init disk/v
expect 0 $i --vault disk/v mount --layout plain m
expect 0 $i --vault disk/v config versions off
daemon=$($i --vault disk/v status --json | sed -n 's/.*"daemon": \([0-9]*\).*/\1/p')
head -c 3000000 /dev/urandom >keep
cp keep m/keep && sync m/keep
mkdir tree
for d in 1 2 3 4; do
  mkdir "tree/$d"
  for n in $(seq 40); do head -c $((n % 4 == 0 ? 500 : n * 2000)) /dev/urandom >"tree/$d/$n"; done
done
head -c 12M /dev/urandom >large

free() { df --output=avail -k disk | tail -n 1; }
fill() {  # until $1 KiB are left
  for _ in 1 2 3 4 5; do  # the vault writes meanwhile
    local n=$(($(free) - $1))
    ((n > 0)) || break
    fallocate -l "${n}K" "disk/ballast.$RANDOM" 2>/dev/null || head -c "${n}K" /dev/zero >"disk/ballast.$RANDOM" 2>/dev/null || true
  done
}
room() { rm -f disk/ballast.*; }
told() { grep -qi 'no space left\|free some space' "$1" || { cat "$1" >&2; die "status not 0, and not for want of room: $2"; }; }
# Within a minute, as the vault is busy giving space back.
until_well() {
  for _ in $(seq 60); do
    timeout 60 "$@" >out 2>err && return 0
    sleep 1
  done
  cat out err >&2
  die "never: $*"
}
ended() { ! kill -0 "$1" 2>/dev/null; }
# at PERCENT OF PID COMMAND: when COMMAND says that so much is there of OF, or PID has ended
at_point() {
  local want=$(($1 * $2 / 100)) pid=$3
  shift 3
  while ! ended "$pid" && (($("$@") < want)); do sleep 0.01; done
}
files() { find m/in -type f 2>/dev/null | wc -l; }
bytes() { stat -c %s m/large 2>/dev/null || echo 0; }
all=$(find tree -type f | wc -l)
failed=0
check() {  # whatever failed: what was there is as it was, and nobody restarted
  cmp keep m/keep || die "$1: what was there is harmed"
  [[ $($i --vault disk/v status --json | sed -n 's/.*"daemon": \([0-9]*\).*/\1/p') == "$daemon" ]] || die "$1: another daemon"
}

for p in $(seq 0 $((points - 1))); do
  percent=$((p * 100 / points)) left=$((p % 2 * 300))
  # an import; at 0% the disk is full before it begins, else it fills up meanwhile
  ((percent > 0)) || fill 0
  timeout 120 "$i" import tree "$PWD/m/in" >import.out 2>import.err & pid=$!
  at_point $percent "$all" $pid files
  fill $left
  status=0
  wait $pid || status=$?
  ((status < 2)) || die "the import ended with $status"
  ((percent > 0 || status == 1)) || die "an import into a full disk"
  ((status == 0)) || { told import.err import; failed=$((failed + 1)); }
  check "import at $percent%"
  # a delete, while the disk is full
  rm -rf m/in 2>rm.err || { told rm.err rm; failed=$((failed + 1)); }
  check "delete at $percent%"
  room
  until_well bash -c 'rm -rf m/in && "$0" import tree "$PWD/m/in"' "$i"
  diff -r tree m/in || die "the import after the disk was full at $percent%"
  # a delete that the full disk meets in its midst
  { rm -rf m/in 2>rm.err || echo failed >rm.failed; } & pid=$!
  at_point 100 "$all" $pid bash -c "echo \$(($all - \$(find m/in -type f 2>/dev/null | wc -l) + $all - $all * $percent / 100))"
  fill $left
  wait $pid
  [[ ! -e rm.failed ]] || { told rm.err rm; failed=$((failed + 1)); rm rm.failed; }
  timeout 60 sync m >/dev/null 2>&1 || true
  check "delete met at $percent%"
  room
  until_well rm -rf m/in
  until_well sync m
  [[ ! -e m/in ]] || die "the delete after the disk was full at $percent%"
  # a large write, likewise
  ((percent > 0)) || fill 0
  timeout 120 dd if=large of=m/large bs=64k conv=fsync status=none 2>dd.err & pid=$!
  at_point $percent 12582912 $pid bytes
  fill $left
  status=0
  wait $pid || status=$?
  ((status == 0)) || { told dd.err dd; failed=$((failed + 1)); }
  ((percent > 0 || status != 0)) || die "a large write into a full disk"
  check "write at $percent%"
  room
  until_well dd if=large of=m/large bs=64k conv=fsync
  cmp large m/large || die "the write after the disk was full at $percent%"
  until_well rm m/large
  until_well "$i" --vault disk/v gc --wait
done
echo "$failed operations failed, each for want of room"
expect 0 $i --vault disk/v unmount m
expect 0 $i --vault disk/v fsck
expect 0 $i --vault disk/v mount --layout plain m
cmp keep m/keep || die "what was there is harmed"
