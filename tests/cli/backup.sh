#!/usr/bin/env bash
# docs/design/backup.md (R1..R10): backup and restore --from, without and beside a mount, killed, and of bad places.
. "$INDRA_SOURCE/tests/cli/common.sh"
trap '$i unmount --force "$PWD/m" >/dev/null 2>&1 || true' EXIT

field() { python3 -c 'import json,sys; print(json.load(open("out"))[sys.argv[1]])' "$1"; }
# like VAULT DIR: the main branch of VAULT is DIR
like() {
  rm -rf got
  INDRAFS_VAULT=$1 $i export :/ "$PWD/got" >/dev/null
  diff -r "$2" got >&2 || die "$1 is not $2"
}

expect 1 $i backup "$PWD/b"   # no vault yet
expect 0 $i init
mkdir tree
head -c 3000000 /dev/urandom >tree/big
printf small >tree/small
expect 0 $i import "$PWD/tree" :/
expect 0 $i snapshot create monday
expect 0 $i branch create agent
printf more | $i put - agent:/more
expect 0 $i backup --json "$PWD/b"
same "$(field number)" 1
expect 0 $i restore --from "$PWD/b" "$PWD/r"
grep -q 'restored from backup 1 of ' out || die "it does not say which"
like "$PWD/r" tree
same "$(INDRAFS_VAULT=$PWD/r $i cat agent:/more)" more
same "$(INDRAFS_VAULT=$PWD/r $i cat --snapshot monday :/small)" small
INDRAFS_VAULT=$PWD/r expect 0 $i fsck
INDRAFS_VAULT=$PWD/r expect 0 $i scrub --wait --rate 0
same "$(stat -c %a b)" 700
same "$(find b r -type f -perm /077 | wc -l)" 0

# Beside a mount, while it is written to; only what is new.
mkdir m
expect 0 $i mount --layout plain "$PWD/m"
cp tree/big m/second
cp tree/big tree/second
printf x >m/open
exec 7>>m/open
printf y >&7
printf xy >tree/open
expect 0 $i backup --json "$PWD/b"
exec 7>&-
same "$(field number)" 2
(($(field new_bytes) < 4500000)) || die "all of it travelled again: $(field new_bytes)"
rm -rf r
expect 0 $i restore --from "$PWD/b" "$PWD/r"
like "$PWD/r" tree
# A daemon that is killed in a backup, and a backup that is killed: what is there is whole.
head -c 20000000 /dev/urandom >m/third
cp m/third tree/third
for _ in 1 2 3; do
  $i backup "$PWD/b" >/dev/null 2>&1 &
  backup=$!
  for _ in $(seq 200); do compgen -G 'b/packs/*' >/dev/null && (($(ls b/packs | wc -l) > 2)) && break; sleep 0.01; done
  kill -9 $backup 2>/dev/null || true
  wait $backup 2>/dev/null || true
  rm -rf r
  expect 0 $i restore --from "$PWD/b" "$PWD/r"
  same "$(INDRAFS_VAULT=$PWD/r $i cat :/small)" small
done
expect 0 $i backup --verify "$PWD/b"
rm -rf r
expect 0 $i restore --from "$PWD/b" "$PWD/r"
like "$PWD/r" tree

# Places that cannot be one's backup.
expect 1 $i backup "$PWD/m/b"
says "lies in a mount of the vault itself"
expect 1 $i backup "$PWD/vault/b"
says "lies in the vault itself"
expect 1 $i backup "$PWD/tree"
says "is not empty, and holds no backup"
expect 1 $i backup "$PWD/tree/small"
expect 1 $i backup "$PWD/no/such/place"
says "No such file"
expect 0 $i --vault "$PWD/other" init
expect 1 $i --vault "$PWD/other" backup "$PWD/b"
says "holds the backup of another vault"
expect 0 $i unmount "$PWD/m"
if [[ $EUID != 0 ]]; then
  chmod 500 b
  mkdir closed
  chmod 500 closed
  expect 1 $i backup "$PWD/closed"
  says "ermission denied"
  chmod 000 b
  expect 1 $i restore --from "$PWD/b" "$PWD/r2"
  says "ermission denied"
  chmod 700 b
fi
expect 1 $i restore --from "$PWD/b" "$PWD/tree"
says "is not empty"
expect 1 $i restore --from "$PWD/b" "$PWD/r"
says "holds a vault already"
expect 1 $i restore --from "$PWD/tree" "$PWD/r2"
says "holds no backup"
expect 1 $i restore --from "$PWD/nothing" "$PWD/r2"
expect 2 $i restore
expect 2 $i restore --from "$PWD/b" --at 1h "$PWD/r2"
expect 2 $i backup
[[ ! -e r2 ]] || die "a restore that was refused left a directory"

# A restore that was killed is no vault, until it is done again.
mkdir half
touch half/restoring
expect 1 $i --vault "$PWD/half" init
says "is being restored"
expect 0 $i restore --from "$PWD/b" "$PWD/half"
like "$PWD/half" tree
expect 0 $i --vault "$PWD/half" backup "$PWD/b"  # it is the same vault

# On a machine that has no vault yet.
(
  unset INDRAFS_VAULT
  export XDG_DATA_HOME=$PWD/fresh/share
  expect 0 $i restore --from "$PWD/b"
  same "$($i cat :/small)" small
)

# A vault of a single file.
export INDRAFS_VAULT=$PWD/single
expect 0 $i init --single-file "$PWD/single"
expect 0 $i import "$PWD/tree" :/
expect 0 $i backup "$PWD/sb"
rm -rf r
expect 0 $i restore --from "$PWD/sb" "$PWD/r"
like "$PWD/r" tree
expect 0 $i --vault "$PWD/r" fsck
