#!/usr/bin/env bash
# What cannot be done is refused in one line that names the thing and the way out, and leaves the vault as it was.
. "$INDRA_SOURCE/tests/cli/common.sh"
[[ -r /dev/fuse && -w /dev/fuse ]] || exit 77
unset INDRAFS_VAULT
$i init v >/dev/null
echo kept | $i --vault v put - :/kept
mkdir m m2
unchanged() { same "$($i --vault v cat :/kept)" kept; }

# No vault, no mount point, one that is no directory or holds something.
expect 1 $i --vault nowhere mount m
says "make a vault there with: indrafs init $PWD/nowhere"
[[ ! -e nowhere ]] || die "nowhere was made"
mkdir empty && echo mine >empty/other
expect 1 $i --vault empty mount m
says "indrafs init"
same "$(ls empty)" other
touch file
expect 1 $i --vault v mount file
says file
expect 1 $i --vault v mount absent
says "mkdir"
[[ ! -e absent ]] || die "mount made a directory"
touch m/inside
expect 1 $i --vault v mount m
says "$PWD/m"
rm m/inside
unchanged

# Not a vault's database; one of a newer program, which stays byte for byte as it is.
mkdir noise && head -c 20000 /dev/urandom >noise/vault.db
expect 1 $i --vault noise mount m
says "not a vault"
$i init newer >/dev/null
printf '\x00\x00\x27\x0f' | dd of=newer/vault.db bs=1 seek=60 conv=notrunc status=none # user_version 9999
before=$(b3sum newer/vault.db)
expect 1 $i --vault newer mount m
says "use the newer indrafs"
expect 1 $i --vault newer ls :/
says "use the newer indrafs"
same "$(b3sum newer/vault.db)" "$before"

# Who may not read it, or a part of it: that part is named, and nothing is taken for a vault cut in its making.
if ((EUID != 0)); then
  $i init closed >/dev/null
  echo kept | $i --vault closed put - :/kept
  head -c 100000 /dev/urandom | $i --vault closed put - :/more
  chmod 0 closed
  expect 1 $i --vault closed mount m
  says "Permission denied"
  chmod 700 closed
  for part in vault.db segments identity.key lock vault.db-mark; do
    mode=$(stat -c %a closed/$part)
    chmod 0 closed/$part
    for verb in "mount m" "ls :/"; do
      expect 1 $i --vault closed $verb
      says "closed/$part"
      grep -q "Permission denied" err || die "$(cat err)"
    done
    chmod "$mode" closed/$part
  done
  chmod 400 closed/vault.db
  expect 1 $i --vault closed mount m
  says "closed/vault.db"
  chmod 600 closed/vault.db
  same "$($i --vault closed cat :/kept)" kept
  expect 0 $i --vault closed queue create q
  chmod 0 closed/coord.db
  expect 1 $i --vault closed queue list
  says "closed/coord.db"
  grep -q "Permission denied" err || die "$(cat err)"
  chmod 600 closed/coord.db
  expect 0 $i --vault closed queue list
  expect 0 $i --vault closed fsck
fi

# Inside its own mount; mounted already; a second daemon.
expect 0 $i --vault v mount m
for verb in "--vault m/vault/w init" "init m/vault/w"; do
  expect 1 $i $verb
  says "inside a FUSE mount"
done
[[ ! -e m/vault/w ]] || die "a directory was left in the mount"
mkdir m/vault/dir
expect 1 $i --vault m/vault/dir init
says "inside a FUSE mount"
rmdir m/vault/dir
expect 1 $i --vault v mount m
says "mounted already"
expect 1 $i --vault v mount --foreground m2
says "served by process"
expect 0 $i --vault v unmount m
unchanged

# A mount point with a blank in its name, also by force while a file is open.
mkdir "a b"
expect 0 $i --vault v mount "a b"
exec 7>"a b/vault/open"
expect 1 $i --vault v unmount "$PWD/a b"
says "open files"
expect 0 $i --vault v unmount --force "a b"
exec 7>&- || true
released() { ! mountpoint -q "a b" && [[ ! -S v/control.sock ]]; }  # a user without fusectl cannot cut off
soon released || die "the mount with a blank is still there"
unchanged

# Without /dev/fuse; on a full disk. In namespaces of their own.
own=(unshare -Urm)
((EUID)) || own=(unshare -m)
if "${own[@]}" mount -t tmpfs none /mnt 2>/dev/null; then
  expect 1 "${own[@]}" bash -c "mount -t tmpfs none /dev && '$i' --vault v mount m"
  says "/dev/fuse is not there"
  unchanged
  mkdir small from
  head -c 8000000 /dev/urandom >from/large
  expect 0 "${own[@]}" bash -c "
    set -e
    mount -t tmpfs -o size=6m none small
    '$i' --vault small/v init >/dev/null
    echo kept | '$i' --vault small/v put - :/kept
    ! '$i' --vault small/v put from/large :/large 2>told
    ! '$i' --vault small/v import from :/from 2>>told
    [[ \$('$i' --vault small/v cat :/kept) == kept ]]
    ! '$i' --vault small/v stat :/large 2>/dev/null
    echo more | '$i' --vault small/v put - :/kept
    '$i' --vault small/v fsck"
  mv told err
  grep -c "No space left on device; free some space on the vault's disk" err | grep -qx 2 || { cat err; die "a full disk is not told"; }
fi

# A vault goes elsewhere while it is not mounted.
head -c 300000 /dev/urandom >bytes
$i --vault v put bytes :/bytes
mkdir elsewhere && mv v elsewhere/moved
expect 0 $i --vault elsewhere/moved mount m
cmp bytes m/vault/bytes || die "bytes after the move"
expect 0 $i --vault elsewhere/moved unmount m

# One file holds everything.
$i init --single-file one >/dev/null
expect 0 $i --vault one mount m
cp bytes m/vault/
dd if=/dev/zero of=m/vault/bytes bs=1000 seek=7 count=1 conv=notrunc status=none
dd if=/dev/zero of=bytes bs=1000 seek=7 count=1 conv=notrunc status=none
same "$(getfattr --only-values -n user.indra.hash m/vault/bytes)" "$(b3sum --no-names bytes)"
expect 0 $i --vault one unmount m
same "$(ls -A one/segments 2>/dev/null)" ""
expect 0 $i --vault one get :/bytes back
cmp bytes back || die "bytes of a single file"

# It goes elsewhere like any other.
rm -rf elsewhere && mkdir elsewhere && mv one elsewhere/moved
expect 0 $i --vault elsewhere/moved mount m
cmp bytes m/vault/bytes || die "bytes of a single file, moved"
echo more >>m/vault/bytes && echo more >>bytes
expect 0 $i --vault elsewhere/moved unmount m
expect 0 $i --vault elsewhere/moved fsck
rm back
expect 0 $i --vault elsewhere/moved get :/bytes back
cmp bytes back || die "bytes of a single file, moved and changed"

# On an overlay (a container, docs/decisions/0006-overlays.md): in the upper layer, with a warning on standard error.
mkdir below above between overlay
$i --vault "$PWD/below/w" init >/dev/null
$i --vault below/w put bytes :/bytes
if ((EUID == 0)) && mount -t overlay -o "lowerdir=$PWD/below,upperdir=$PWD/above,workdir=$PWD/between" overlay overlay 2>/dev/null; then
  trap 'umount -l m overlay 2>/dev/null || true' EXIT
  # Not from a lower layer, nor into the upper one past the overlay.
  for verb in "cat :/bytes" "mount m"; do
    expect 1 $i --vault overlay/w $verb
    says "comes from a lower layer of the overlay at $PWD/overlay"
  done
  [[ ! -e above/w ]] || die "the vault below was copied up"
  expect 1 $i --vault above/new init
  says "lies in the upper layer of the overlay that is mounted at $PWD/overlay"
  [[ ! -e above/new ]] || die "above/new was made"
  cp -a below/w overlay/copy  # a copy is the overlay's own
  expect 0 $i --vault overlay/copy cat :/bytes
  says "overlay file system"
  cmp out bytes || die "bytes of a copy"
  expect 0 $i --vault "$PWD/overlay/v" init
  expect 0 $i --vault overlay/v put bytes :/bytes
  says "overlay file system"
  for verb in "cat :/bytes" "mount m"; do
    expect 1 $i --vault above/v $verb
    says "lies in the upper layer"
  done
  # Somebody who does not see the overlay has it open past it: one owner all the same.
  exec 8<>above/v/lock
  flock -n 8 || die "the vault is in use"
  : >err
  $i --vault overlay/v cat :/bytes >out 2>err 8>&- & asking=$!
  soon grep -q "in use by process" err || die "two owners: $(cat err)"
  exec 8>&-
  wait $asking || die "it did not get its turn: $(cat err)"
  cmp out bytes || die "bytes after waiting"
  rm -rf overlay/copy && mv overlay/v overlay/w2
  expect 0 $i --vault overlay/w2 mount m
  dd if=/dev/zero of=m/vault/bytes bs=1000 seek=9 count=1 conv=notrunc,fsync status=none
  cp bytes changed && dd if=/dev/zero of=changed bs=1000 seek=9 count=1 conv=notrunc status=none
  cmp changed m/vault/bytes || die "bytes on an overlay"
  expect 0 $i --vault overlay/w2 unmount m
  expect 0 $i --vault overlay/w2 cat :/bytes
  cmp out changed || die "bytes on an overlay, later"
  expect 0 $i --vault overlay/w2 fsck
  umount overlay
  expect 0 $i --vault above/w2 cat :/bytes # it may be reached there now
  cmp out changed || die "bytes of the upper layer"
  expect 0 $i --vault below/w fsck # and the layer below is as it was
  expect 0 $i --vault below/w cat :/bytes
  cmp out bytes || die "the layer below has changed"
fi
