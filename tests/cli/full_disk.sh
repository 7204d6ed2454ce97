#!/usr/bin/env bash
# A disk that fills up: the writer hears of it, what was there stays, room can be made through the mount itself, and
# work goes on without a restart. Needs root: for a small file system of its own.
. "$INDRA_SOURCE/tests/cli/common.sh"
[[ -r /dev/fuse && -w /dev/fuse ]] || exit 77
((EUID == 0)) || exit 77
truncate -s 64M image && mkdir disk m
cleanup() {
  "$i" --vault disk/v unmount m >/dev/null 2>&1 || fusermount3 -uz m 2>/dev/null || true
  umount disk 2>/dev/null || umount -l disk
}
if ! { /sbin/mkfs.ext4 -q image && mount -o loop image disk; } 2>/dev/null; then
  mount -t tmpfs -o size=64m none disk || exit 77
fi
trap cleanup EXIT
$i init disk/v >/dev/null
expect 0 $i --vault disk/v mount --layout plain m
echo precious >m/keep && sync m/keep

# Two files that are removed: a snapshot keeps the one, an automatic version, made every five seconds, the other.
free() { df --output=avail -k disk | tail -n 1; }
head -c 4M /dev/urandom >m/held && held=$(b3sum --no-names m/held)
expect 0 $i --vault disk/v snapshot create kept
head -c 20M /dev/urandom >m/old && sync m/old
versions() { sqlite3 -readonly disk/v/vault.db 'SELECT count(*) FROM pins WHERE kind = 3 AND seq >= (SELECT max(seq) FROM changes WHERE op = 8)'; }
has_version() { [[ $(versions) != 0 ]]; }
soon has_version || die "no automatic version"
rm m/held m/old && sync m
sleep 1
(($(free) < 36000)) || die "no version holds the room: $(free) KiB are free"

# One large file, small files, then small writes made durable one by one: each ends with ENOSPC.
! dd if=/dev/urandom of=m/large bs=1M count=100 2>err || die "100 MiB fit in 64"
grep -q "No space left" err || die "dd was not told"
fits() { dd if=/dev/urandom of=m/fits bs=1M count=8 conv=fsync 2>err; }
soon fits || { cat err >&2; die "the automatic version did not give way"; }
for n in 1 2 3; do # no version is left to give up
  ! dd if=/dev/urandom of=m/large$n bs=1M count=100 2>err || die "100 MiB more fit in 64"
  sleep 1
done
full=
for n in $(seq 3000); do
  { head -c 3000 /dev/urandom >"m/small$n"; } 2>err || { full=$n; break; }  # the open may be what fails
done
[[ $full ]] || die "3,000 small files fit"
grep -q "No space left" err || { cat err >&2; die "the shell was not told"; }
same "$(cat m/keep)" precious
echo more >>m/keep 2>/dev/null || true
[[ $(head -n 1 m/keep) == precious ]] || die "an append that failed harmed what was there"
for n in 1 2 3; do [[ $full -le $n ]] || same "$(stat -c %s "m/small$n")" 3000; done

# Room is made through the mount, and it works on.
rm -f m/large* m/fits m/small*
has_room() { (($(free) > 40000)); }
soon has_room || die "automatic versions hold the room: $(free) KiB are free"
dd if=/dev/urandom of=bytes bs=1M count=20 status=none
cp bytes m/again && sync m/again
cmp bytes m/again || die "bytes after the disk was full"
expect 0 $i --vault disk/v unmount m
expect 0 $i --vault disk/v mount --layout plain m
cmp bytes m/again || die "bytes after a new mount"
[[ $(head -n 1 m/keep) == precious ]] || die keep
same "$($i --vault disk/v cat --snapshot kept :/held | b3sum --no-names)" "$held"
