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

# Who may not read it.
if ((EUID != 0)); then
  $i init closed >/dev/null
  chmod 0 closed
  expect 1 $i --vault closed mount m
  says "Permission denied"
  chmod 700 closed
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

# Without /dev/fuse.
if ((EUID == 0)) && unshare -m true 2>/dev/null; then
  expect 1 unshare -m bash -c "mount -t tmpfs none /dev && '$i' --vault v mount m"
  says "/dev/fuse is not there"
  unchanged
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

# On an overlay (a container): a warning, on standard error; also where the vault comes from the layer below.
mkdir below above between overlay
$i --vault "$PWD/below/w" init >/dev/null
$i --vault below/w put bytes :/bytes
if ((EUID == 0)) && mount -t overlay -o lowerdir=below,upperdir=above,workdir=between overlay overlay 2>/dev/null; then
  trap 'umount -l m overlay 2>/dev/null || true' EXIT
  expect 0 $i --vault overlay/w cat :/bytes
  says "overlay file system"
  cmp out bytes || die "bytes from the layer below"
  expect 0 $i --vault overlay/w mount m
  dd if=/dev/zero of=m/vault/bytes bs=1000 seek=9 count=1 conv=notrunc,fsync status=none
  cp bytes changed && dd if=/dev/zero of=changed bs=1000 seek=9 count=1 conv=notrunc status=none
  cmp changed m/vault/bytes || die "bytes on an overlay"
  expect 0 $i --vault overlay/w unmount m
  expect 0 $i --vault overlay/w cat :/bytes
  cmp out changed || die "bytes on an overlay, later"
  expect 0 $i --vault overlay/w fsck
  umount overlay
  expect 0 $i --vault below/w fsck # and the layer below is as it was
  expect 0 $i --vault below/w cat :/bytes
  cmp out bytes || die "the layer below has changed"
fi
