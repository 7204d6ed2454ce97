#!/usr/bin/env bash
# docs/branches.md: branches made of old moments, renamed, protected, deleted; the past looked at.
. "$INDRA_SOURCE/tests/cli/common.sh"

expect 0 $i init
printf one | $i put - :/f
expect 0 $i snapshot create first
printf two | $i put - :/f

# A fork of an old moment, and what is refused (B4, B6).
expect 1 $i branch create old --at '1 hour ago'
says "no moment is kept so early"
expect 1 $i branch create old --at seq:999999999999
says "in the future"
expect 2 $i branch create old --at sometime
expect 0 $i branch create old --from-snapshot first
same "$($i cat old:/f)" one
s=$($i snapshot list --json | sed -n 's/.*"seq": \([0-9]*\).*/\1/p')
expect 0 $i branch create older --at "seq:$s"
same "$($i cat older:/f)" one
same "$($i cat --at "seq:$s" :/f 2>/dev/null)" one
same "$($i cat :/f)" two
expect 1 $i cat --at '@99999999999' :/f
says "in the future"
expect 0 $i cp --at "seq:$s" :/f :/back
same "$($i cat :/back)" one

# Renamed, protected, deleted (B1, B2, B5).
expect 1 $i branch rename old older
expect 1 $i branch rename main trunk
expect 1 $i branch rename nobody x
says "there is no branch nobody"
expect 2 $i branch rename old a/b
expect 0 $i branch rename old ancient
expect 1 $i cat old:/f
same "$($i cat ancient:/f)" one
expect 0 $i branch protect ancient
$i branch list | grep -q '^ancient .*protected' || die "branch list does not say protected"
printf three >three
expect 1 $i put three ancient:/f
expect 1 $i branch delete ancient
same "$($i cat ancient:/f)" one
expect 0 $i branch protect --off ancient
expect 0 $i put three ancient:/f
same "$($i cat ancient:/f)" three
expect 0 $i branch create child --from ancient
expect 0 $i branch delete ancient older
expect 1 $i cat ancient:/f
expect 1 $i branch delete main
expect 1 $i branch delete nobody
says "there is no branch nobody"
same "$($i cat child:/f)" three
expect 0 $i branch create ancient
same "$($i cat ancient:/f)" two
expect 0 $i snapshot delete first
expect 1 $i snapshot delete first
says "there is no snapshot first"
same "$($i cat child:/f)" three

# Mounted: what is gone disappears, and comes back as another one.
[[ -e /dev/fuse ]] || exit 0
mkdir m m2
trap 'fusermount3 -uz "$PWD/m" 2>/dev/null || true; fusermount3 -uz "$PWD/m2" 2>/dev/null || true' EXIT
expect 0 $i mount "$PWD/m"
same "$(cat m/branches/child/f)" three
exec 7<m/branches/child/f
expect 0 $i branch delete child
same "$(cat <&7)" three # still open: still readable
exec 7<&-
soon test ! -e m/branches/child || die "a deleted branch is still listed"
expect 0 $i branch create child
child_has_two() { [[ $(cat m/branches/child/f 2>/dev/null) == two ]]; }
soon child_has_two || die "a branch that came back: $(cat m/branches/child/f)"
expect 1 $i branch delete main
# A fork holds the writes that returned; --committed leaves out what is not published.
mkfifo hold
python3 -c 'import os, sys; f = os.open("m/vault/w", os.O_CREAT | os.O_WRONLY); os.write(f, b"before"); open("ready", "w").close(); sys.stdin.read()' <hold &
writer=$!
exec 8>hold
soon test -e ready || die "nobody wrote"
expect 0 $i branch create without --committed
expect 0 $i branch create with
same "$($i cat without:/w)" ""
same "$($i cat with:/w)" before
exec 8>&-
wait $writer
expect 0 $i branch protect with
if (printf x >m/branches/with/new) 2>/dev/null; then die "a protected branch was written to"; fi
# The mounted branch itself is not deleted under its users.
expect 0 $i mount --branch without --layout plain "$PWD/m2"
expect 1 $i branch delete without
says "is mounted at"
expect 0 $i unmount "$PWD/m2"
expect 0 $i branch delete without
# The past as a mount: read-only.
expect 0 $i snapshot create now
printf later | $i put - :/f
s=$($i snapshot list --json | sed -n 's/.*"seq": \([0-9]*\).*/\1/p' | tail -1)
expect 0 $i mount --at "seq:$s" --layout plain "$PWD/m2"
same "$(cat m2/f)" two
if touch m2/x 2>/dev/null; then die "the past was written to"; fi
expect 0 $i unmount "$PWD/m2"
expect 0 $i unmount "$PWD/m"
