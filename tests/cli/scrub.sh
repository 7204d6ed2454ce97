#!/usr/bin/env bash
# docs/design/fsck.md (B1..): the verb, without and beside a mount; what it answers, and what status says of it.
. "$INDRA_SOURCE/tests/cli/common.sh"

flip() {  # FILE OFFSET: one bit of that byte
  local c
  c=$(od -An -tu1 -j "$2" -N 1 "$1")
  printf "\\$(printf %03o $((c ^ 4)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

expect 0 $i init
head -c 3000000 /dev/urandom >big
expect 0 $i put big :/big
printf small | $i put - :/small
expect 0 $i branch create agent
expect 0 $i status
grep -q '^Scrub:' out && die "status tells of a scrub that never was"
expect 0 $i scrub
grep -q '^Scrubbed: .* all well$' out || { cat out; die "scrub does not say that all is well"; }
expect 0 $i status
grep -q '^Scrub: .* all well$' out || { cat out; die "status does not tell of the scrub"; }
expect 0 $i scrub --json --rate 0
grep -q '"state": "done"' out || die "no JSON"
expect 2 $i scrub --stop --wait
expect 2 $i scrub --rate x
expect 1 $i --vault "$PWD/nowhere" scrub

# A flipped bit: found, named in both branches, EIO to read, and the rest is whole.
at=$(python3 - <<'P'
import glob
want = open("big", "rb").read()[100000:100064]
for p in glob.glob("vault/segments/*.seg"):
    n = open(p, "rb").read().find(want)
    if n >= 0:
        print(p, n)
P
)
read -r segment offset <<<"$at"
flip "$segment" "$offset"
expect 1 $i scrub
grep -q 'DAMAGED' out || { cat out; die "not found"; }
grep -q 'branch main /big' out || { cat out; die "the file is not named"; }
expect 1 $i cat :/big
same "$($i cat :/small)" small
expect 0 $i status
grep -q '^DAMAGED: .*branch main /big' out || { cat out; die "status does not name the file"; }
flip "$segment" "$offset"
expect 0 $i scrub
expect 0 $i cat :/big
cmp -s out big || die "the file is not whole again"

# Beside a mount: in the background, a job of the vault's queue; slow enough to be looked at, stopped, gone on with.
mkdir m
trap '$i unmount --force "$PWD/m" >/dev/null 2>&1 || true' EXIT
expect 0 $i mount --layout plain "$PWD/m"
expect 0 $i scrub --rate 1
grep -q '^Under way' out || { cat out; die "it does not go on in the background"; }
listed() { $i queue jobs indra:work 2>/dev/null | grep -q scrub; }
soon listed || { $i queue jobs indra:work; die "no job of the queue"; }
expect 0 $i scrub --stop
grep -q '^Left' out || { cat out; die "not stopped"; }
cp big m/another
cmp -s big m/another || die "the mount does not go on"
expect 0 $i unmount "$PWD/m"
expect 0 $i mount --layout plain "$PWD/m"  # goes on by itself
expect 0 $i scrub --wait --rate 0
grep -q 'all well$' out || { cat out; die "not gone on with"; }
expect 0 $i unmount "$PWD/m"
expect 0 $i fsck
