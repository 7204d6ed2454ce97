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

# Changed by a stranger, whose pages bear no checksum: found and named, not repaired by guessing, and left as it is.
# (What fsck mends is planted row by row in src/fsck/fsck_test.cpp.)
if command -v sqlite3 >/dev/null; then
  $i init --vault "$PWD/hurt" >/dev/null
  head -c 100000 /dev/urandom | $i --vault "$PWD/hurt" put - :/f
  sqlite3 hurt/vault.db "UPDATE nodes SET nlink = 5 WHERE node = (SELECT node FROM edges WHERE name = CAST('f' AS BLOB))" || die sqlite3
  before=$(b3sum hurt/vault.db)
  expect 1 $i --vault "$PWD/hurt" fsck
  grep -q '^F1 .*[Pp]age' out || { cat out; die "the page is not named"; }
  expect 1 $i --vault "$PWD/hurt" fsck --repair
  same "$(b3sum hurt/vault.db)" "$before"
fi

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
