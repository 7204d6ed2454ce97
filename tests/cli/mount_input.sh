#!/usr/bin/env bash
# mount, unmount and status with what cannot be meant: one line that names it, nothing mounted, the vault as it was.
. "$INDRA_SOURCE/tests/cli/common.sh"
[[ -r /dev/fuse && -w /dev/fuse ]] || exit 77
$i init >/dev/null
echo kept | $i put - :/kept
mkdir m
nothing() { # after each refusal: nothing is mounted, no daemon is left, the vault is free
  mountpoint -q m && die "m is mounted"
  [[ ! -S vault/control.sock ]] || die "a daemon is left"
  same "$($i cat :/kept)" kept
}
# refused STATUS TEXT ARGUMENT...
refused() {
  local status=$1 text=$2
  shift 2
  expect "$status" $i "$@"
  says "$text"
  nothing
}
long=$(printf 'x%.0s' $(seq 300))
odd=$'odd\n\xff'

# mount: names, moments, options, places
refused 1 "there is no branch nobody" mount --branch nobody m
refused 2 "is no name of a branch" mount --branch a/b m
refused 2 "is no name of a branch" mount --branch .hidden m
refused 2 "is no name of a branch" mount --branch "$long" m
refused 2 "is no name of a branch or snapshot" mount --snapshot a:b m
refused 1 "there is no snapshot nowhere" mount --snapshot nowhere m
refused 1 "there is no branch odd" mount --branch "$odd" m
refused 2 "--at" mount --at '' m
expect 2 $i cat --at '' :/kept
says "--at"
refused 2 "is no time" mount --at nonsense m
refused 1 "" mount --at seq:99999999 m
refused 2 "--layout" mount --layout flat m
refused 2 "--locks" mount --locks none m
refused 2 "--events" mount --events sometimes m
refused 2 "-o nonsense is not known" mount -o ro,nonsense m
refused 2 "" mount
refused 2 "" mount m m
refused 1 "" mount ''
refused 1 "" mount "$long"
refused 1 "mkdir" mount "$odd"
ln -s nowhere dangling
refused 1 "dangling" mount dangling
refused 1 "player" --player "$(printf 'a%.0s' $(seq 64))" mount m
# Over the vault, what holds it, or in it
refused 1 "would cover the vault" mount --nonempty vault
refused 1 "would cover the vault" mount --nonempty .
mkdir vault/sub
refused 1 "would cover the vault" mount vault/sub
rmdir vault/sub

# A link to a directory, an odd name: they are what they lead to.
ln -s m link
expect 0 $i mount link
same "$(cat m/vault/kept)" kept
expect 0 $i unmount link
nothing
mkdir "$odd"
expect 0 $i mount --layout plain "$odd"
same "$(cat "$odd/kept")" kept
expect 0 $i status
expect 0 $i status --json
python3 -c 'import json; json.load(open("out"))'
expect 0 $i unmount "$odd"
nothing

# unmount and status of what is none
for what in '' . m "$long" dangling vault :/kept "$odd" /; do
  expect 1 $i unmount "$what"
  [[ $(wc -l <err) == 1 ]] || { cat err; die "unmount $what: not one line"; }
  nothing
done
refused 2 "" unmount
expect 1 $i unmount m "$odd"  # each is told of
[[ $(wc -l <err) == 2 ]] || { cat err; die "unmount of two"; }
expect 1 $i --vault nowhere status
says "nowhere"
[[ ! -e nowhere ]] || die "status made something"
expect 0 $i mount m
refused_beside() { expect "$1" $i "${@:3}"; says "$2"; same "$(cat m/vault/kept)" kept; }
refused_beside 1 "is no mount point; the mount it lies in is $PWD/m" unmount m/vault
refused_beside 1 "is mounted already" mount m
refused_beside 1 "would cover the vault" mount --nonempty .
refused_beside 1 "there is no branch nobody" mount --branch nobody --layout plain "$odd"
expect 0 $i status m
expect 0 $i status m/vault
expect 0 $i unmount m
expect 1 $i unmount m
nothing
