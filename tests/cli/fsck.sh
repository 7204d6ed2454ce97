#!/usr/bin/env bash
# docs/design/fsck.md: the verb, without and beside a mount; what it answers.
. "$INDRA_SOURCE/tests/cli/common.sh"

expect 0 $i init
head -c 300000 /dev/urandom >big
expect 0 $i put big :/big
printf small | $i put - :/small
expect 0 $i branch create agent
expect 0 $i fsck
$i fsck | grep -q '^Clean: [0-9]* rows checked' || die "fsck does not say clean"
$i fsck --json | grep -q '"clean": true' || die "no JSON"
expect 0 $i fsck --repair
expect 1 $i --vault "$PWD/nowhere" fsck

# Damaged by hand: found, named, mended.
command -v sqlite3 >/dev/null || exit 77
db=$INDRAFS_VAULT/vault.db
sqlite3 "$db" "UPDATE nodes SET nlink = 5 WHERE node = (SELECT node FROM edges WHERE name = CAST('small' AS BLOB))" ||
  die "sqlite3"
expect 1 $i fsck
$i fsck | grep -q '^F8 .*branch main /small: counts 5 names, there are 1; --repair would mend it' || die "fsck: $($i fsck)"
expect 0 $i fsck --repair
expect 0 $i fsck
sqlite3 "$db" "DELETE FROM edges WHERE name = CAST('big' AS BLOB)"
expect 1 $i fsck
expect 0 $i fsck --repair
lost=$($i ls :/lost+found)
cmp big <($i cat ":/lost+found/$lost") || die "what was lost is not in lost+found"
expect 0 $i fsck

# Beside a mount: read while files are open and written, never repaired.
mkdir m
trap '$i unmount --force "$PWD/m" >/dev/null 2>&1 || true' EXIT
expect 0 $i mount --layout plain "$PWD/m"
exec 8>m/open
printf unfinished >&8
expect 0 $i fsck
expect 1 $i fsck --repair
says "unmount it first"
printf more >&8
exec 8>&-
same "$(cat m/open)" unfinishedmore
expect 0 $i unmount "$PWD/m"
expect 0 $i fsck
