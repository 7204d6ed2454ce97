#!/usr/bin/env bash
# A vault's directory is nobody else's: planted links are refused by name and not followed, sockets are 0600, and nothing is
# readable for others, whatever the umask.
. "$INDRA_SOURCE/tests/cli/common.sh"
trap '$i unmount --force "$PWD/m" >/dev/null 2>&1 || true' EXIT

umask 0
expect 0 $i init
mkdir m
closed() {  # no bit for group or others, anywhere
  local open
  open=$(find "$@" -perm /077 ! -type l)
  [[ -z $open ]] || { ls -ld $open >&2; die "open for others"; }
}
head -c 300000 /dev/urandom >big
expect 0 $i mount --layout plain "$PWD/m"
cp big m/big
expect 0 $i queue create q
expect 0 $i queue push q '{}'
expect 0 $i snapshot create s
expect 0 $i scrub --wait --rate 0
same "$(stat -c '%F %a' vault/control.sock)" "socket 600"
closed vault
expect 0 $i backup "$PWD/b"
expect 0 $i pack "$PWD/p.pack"
closed b p.pack
expect 0 $i unmount "$PWD/m"
closed vault
expect 0 $i restore --from "$PWD/b" "$PWD/r"
expect 0 $i --vault "$PWD/r" status
closed r
umask 022

# Each name in turn: a link to a file that is there, and to one that is not.
mkdir trap
for name in vault.db vault.db-wal vault.db-shm vault.db-mark coord.db coord.db-wal coord.db-knock segments identity.key lock knock \
    control.sock daemon.log; do
  for there in yes no; do
    rm -rf v trap/*
    cp -a vault v
    rm -f v/control.sock
    if [[ $there == yes ]]; then
      if [[ -e v/$name ]]; then cp -a "v/$name" trap/target; else printf precious >trap/target; fi
    fi
    before=$(find trap -type f -exec sha256sum {} + | sort)
    rm -rf "v/$name"
    ln -s "$PWD/trap/target" "v/$name"
    commands=("status" "mount --layout plain $PWD/m")
    [[ $name$there == vault.dbyes ]] && commands+=("put big :/x" "fsck" "backup $PWD/b2" "mount --foreground $PWD/m")
    for command in "${commands[@]}"; do
      expect 1 $i --vault "$PWD/v" $command
      says "v/$name is a symbolic link"
    done
    if [[ $name == vault.db && $there == yes ]]; then expect 1 $i --vault "$PWD/v" watch --once; fi
    if [[ $name == coord.db || $name == coord.db-wal ]]; then
      expect 1 $i --vault "$PWD/v" queue push q '{}'
      says "is a symbolic link"
    fi
    same "$(find trap -type f -exec sha256sum {} + | sort)" "$before"
    [[ -L v/$name ]] || die "$name was replaced"
    [[ $there == yes || ! -e trap/target ]] || die "$name was followed: a file was made"
  done
done
# In segments too.
rm -rf v trap/*
cp -a vault v
segment=$(ls v/segments | head -n 1)
mv "v/segments/$segment" trap/
ln -s "$PWD/trap/$segment" "v/segments/$segment"
before=$(sha256sum trap/*)
$i --vault "$PWD/v" cat :/big >out 2>err && die "a segment that is a link was followed"
same "$(sha256sum trap/*)" "$before"
