#!/usr/bin/env bash
# C34 .. C39, T13: gc, prune and stats, without and beside a mount; what is promised comes back.
. "$INDRA_SOURCE/tests/cli/common.sh"

number() { python3 -c 'import json, sys
j = json.load(sys.stdin)
for k in sys.argv[1].split("."): j = j[k]
print(int(j))' "$1"; }
stat_of() { $i stats --json | number "$1"; }

# Without a daemon.
expect 0 $i init
head -c 3000000 /dev/urandom >old
head -c 2000000 /dev/urandom >new
expect 0 $i put old :/f
expect 0 $i snapshot create kept
expect 0 $i put new :/f
expect 0 $i gc --dry-run
grep -q '^0 B would be given back$' out || { cat out; die "what a snapshot keeps is not dead"; }
(($(stat_of space.content) > 5000000)) || die "both versions are not there"
expect 0 $i snapshot delete kept
expect 0 $i gc
grep -q 'given back, .* on disk$' out || { cat out; die "gc does not tell"; }
content=$(stat_of space.content)
((content > 2000000 && content < 2200000)) || die "$content bytes are left"
same "$(stat_of reclaim.gc)" 0
expect 0 $i cat :/f
cmp -s out new || die "the file is not whole"
expect 0 $i prune
grep -q '^0 automatic versions given up' out || { cat out; die "prune found something"; }
expect 0 $i gc --json
same "$(number freed <out)" 0
expect 2 $i gc --wait --dry-run
expect 2 $i prune --older soon
expect 1 $i prune --bucket nobody
says "there is no bucket nobody"
expect 1 $i --vault "$PWD/nowhere" gc

# What versions are kept.
expect 0 $i config
grep -q '^versions *on ' out || { cat out; die "versions are not on"; }
grep -q '^versions.hourly *7d ' out || { cat out; die "not hourly for a week"; }
expect 0 $i config versions.all 2d
expect 0 $i config versions.all
grep -q '^versions.all *2d ' out || { cat out; die "not kept"; }
expect 0 $i config versions.all 0
expect 0 $i config versions.all --json
grep -q '"versions.all": 0' out || { cat out; die "not 0"; }
expect 0 $i config versions.all 1d
expect 2 $i config versions maybe
expect 2 $i config versions.all 5
expect 2 $i config versions.yearly 5d
expect 1 $i config versions off --bucket nobody

# Beside a mount.
mkdir m
trap '$i unmount --force "$PWD/m" >/dev/null 2>&1 || true' EXIT
expect 0 $i mount --layout plain "$PWD/m"
# until COMMAND...: within a minute
until_true() {
  for _ in $(seq 600); do
    "$@" && return 0
    sleep 0.1
  done
  die "never: $*"
}
before=$(stat_of reclaim.automatic_versions)
cp old m/g
more_versions() { (($(stat_of reclaim.automatic_versions) > before)); }
until_true more_versions
rm m/g
expect 0 $i gc --wait --json
(($(stat_of space.content) > 5000000)) || die "the automatic version did not keep it"
promised=$(stat_of reclaim.automatic)
((promised > 2900000)) || die "stats promise $promised bytes of automatic versions"
expect 0 $i prune --older 1d --dry-run
grep -q '^0 automatic versions would go, and 0 B come back$' out || { cat out; die "they are not that old"; }
expect 0 $i prune --older 0 --dry-run --json
same "$(number bytes <out)" "$promised"
expect 0 $i prune --older 0 --wait --json
(($(number freed <out) >= promised)) || { cat out; die "less than was promised came back"; }
content=$(stat_of space.content)
((content < 2200000)) || die "$content bytes are left"
cmp -s m/f new || die "the file is not whole"

# In the background, a job of the vault's queue; written again, it is there.
cp old m/g && rm m/g
expect 0 $i gc
cp old m/g
expect 0 $i gc --wait
cmp -s m/g old || die "written again it did not survive"
$i queue stats indra:work >out 2>&1 || { cat out; die "no queue"; }

# Off: no version is made any more.
expect 0 $i config versions off
expect 0 $i prune --older 0 --wait
rm m/g
echo changed >m/h
sleep 6
same "$(stat_of reclaim.automatic_versions)" 0
expect 0 $i gc --wait
content=$(stat_of space.content)
((content < 2200000)) || die "$content bytes are left without versions"
expect 0 $i unmount "$PWD/m"
expect 0 $i cat :/f
cmp -s out new || die "the file is not whole at the end"
expect 0 $i fsck
