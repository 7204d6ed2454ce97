#!/usr/bin/env bash
# Root in a user's vault (docs/design/daemon.md, A1 and A2): what root makes there is the user's, and whoever owns the vault
# is answered by root's daemon. Needs root, who becomes two others.
. "$INDRA_SOURCE/tests/cli/common.sh"
((EUID == 0)) || exit 77
unset INDRAFS_VAULT
cp "$INDRAFS" indrafs  # where the others may read it
chmod 711 .. . && mkdir m && install -d -o 65534 -g 65534 home
as() { local uid=$1; shift; setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@"; }
user() { as 65534 ./indrafs --vault "$PWD/home/v" "$@"; }
root() { ./indrafs --vault "$PWD/home/v" "$@"; }
all_the_users() { same "$(find home/v ! -uid 65534 -o ! -gid 65534)" ""; }

expect 0 user init
head -c 300000 /dev/urandom >bytes
echo mine | user put - :/mine

# Without a daemon: new segments, coord.db, knocks, SQLite's own files.
expect 0 root put bytes :/bytes
expect 0 root queue create q
expect 0 root queue push q hello
all_the_users
expect 0 user cat :/bytes
cmp out bytes || die "the owner reads other bytes"
expect 0 user put bytes :/again
expect 0 user queue work q --once -- cat
same "$(cat out)" hello
expect 0 root fsck
all_the_users

# The first to come is root: a vault that the user's directory has and nothing more.
install -d -m 700 -o 65534 -g 65534 home/empty
expect 0 ./indrafs init home/empty
same "$(find home/empty ! -uid 65534)" ""
expect 0 as 65534 ./indrafs --vault "$PWD/home/empty" put bytes :/bytes
# A vault that root makes is root's.
expect 0 ./indrafs init home/roots
same "$(find home/roots ! -uid 0)" ""

# Root's daemon answers the owner, and nobody else.
if [[ -r /dev/fuse && -w /dev/fuse ]]; then
  expect 0 root mount m
  all_the_users
  expect 0 user cat :/mine
  same "$(cat out)" mine
  echo more | user put - :/more
  same "$(cat m/vault/more)" more
  expect 0 user status
  grep -q "$PWD/m" out || die "status does not tell the owner of the mount"
  expect 0 user watch --from 0 --once
  chmod 755 home/v  # the socket's own mode still keeps others out
  expect 1 as 65533 ./indrafs --vault "$PWD/home/v" ls :/
  says "$PWD/home/v"
  chmod 700 home/v
  cp bytes m/vault/through-the-mount
  all_the_users
  expect 0 user unmount "$PWD/m"
  all_the_users
  expect 0 user cat :/more
fi
expect 0 user fsck
