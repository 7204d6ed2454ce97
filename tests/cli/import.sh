#!/usr/bin/env bash
# import and export: what goes in comes exported the same; archives cannot reach beyond their place.
. "$INDRA_SOURCE/tests/cli/common.sh"
expect 0 $i init

# A directory with everything that a file system has.
mkdir -p src/deep/er "src/empty"
for n in $(seq 300); do echo "file $n" >"src/deep/$n"; done
head -c 5000000 /dev/urandom >src/large
truncate -s 1G src/sparse
printf middle | dd of=src/sparse bs=1 seek=500000000 conv=notrunc status=none
ln src/large src/deep/again
ln -s ../large src/deep/link
ln -s /etc/passwd src/outside
mkfifo src/fifo
printf x >"src/"$'odd \xff\nname'
chmod 4711 src/deep/1
chmod 2750 src/empty
setfattr -n user.colour -v blue src/large 2>/dev/null && xattrs=yes || xattrs=no
touch -h -d '2001-01-01 01:01:01.5' src/deep/link src/deep/2 src/deep src/empty src/fifo
list() { (cd "$1" && find . -mindepth 1 ! -type d -printf '%p %y %m %s %n %l %T@\n' -o -mindepth 1 -printf '%p %y %m %T@\n' | sort); }

expect 0 $i import --dry-run src :/in
expect 1 $i ls :/in
expect 0 $i import src :/in
expect 0 $i export :/in exported
diff <(list src) <(list exported) || die "what came out is not what went in"
diff -r --no-dereference -x fifo src exported || die "contents differ"
[[ $(stat -c %b exported/sparse) -lt 1000 ]] || die "the hole was filled"
[[ $xattrs == no ]] || same "$(getfattr --only-values -n user.colour exported/large)" blue
[[ exported/large -ef exported/deep/again ]] || die "the hard link is gone"

# Names that are taken.
expect 1 $i import src :/in
grep -q 'exists' err || die "conflict"
expect 0 $i import --on-conflict skip src :/in
grep -q skipped out || true
echo changed >src/deep/3
expect 0 $i import --on-conflict replace src :/in
same "$($i cat :/in/deep/3)" changed
expect 1 $i export :/in exported
rm -rf exported

# Archives, there and back.
expect 0 $i export :/in a.tar.gz
mkdir t && tar -C t -xpf a.tar.gz
diff <(list src | grep -av '/large\|/again') <(list t | grep -av '/large\|/again') || die "through a tar"
cmp t/large src/large
tar -C src --sparse --format=posix -cf - . | $i import - :/from-tar
expect 0 $i export :/from-tar out2
diff <(list src | grep -av '^./\(deep\|empty\) ') <(list out2 | grep -av '^./\(deep\|empty\) ') || die "from a tar"
for z in gz xz zst bz2; do
  command -v ${z/gz/gzip} >/dev/null || true
  expect 0 $i export :/in/deep d.tar.$z
  expect 0 $i import d.tar.$z :/z/$z
  $i cat :/z/$z/7 | cmp - src/deep/7
done

# Hostile archives.
cat >tars.py <<'P'
import tarfile, io
def add(t, name, data=b'x', **k):
    i = tarfile.TarInfo(name); i.size = len(data)
    for a, b in k.items(): setattr(i, a, b)
    t.addfile(i, io.BytesIO(data))
P
python3 - <<'P'
import tarfile; from tars import add
with tarfile.open('evil.tar', 'w') as t:
    add(t, '../../up'); add(t, '/absolute'); add(t, 'good')
    add(t, 'door', b'', type=tarfile.SYMTYPE, linkname='/tmp')
    add(t, 'door/through')
    add(t, 'hard', b'', type=tarfile.LNKTYPE, linkname='../../../etc/passwd')
    add(t, 'x/' * 50 + 'deep')
P
expect 1 $i import evil.tar :/evil
same "$($i cat :/evil/up)$($i cat :/evil/absolute)$($i cat :/evil/good)" xxx
grep -q 'door/through' err || die "something was written through a link"
$i ls :/ | sort | tr '\n' ' ' | grep -q '^evil from-tar in z $' || die "something landed beside"
head -c 3000 a.tar.gz >cut.tar.gz
expect 1 $i import cut.tar.gz :/cut
printf 'no archive at all, only text' >text
expect 1 $i import text :/text

# A hard link is another name of what came, never of what bears that name already; and nothing goes for a link that is none.
mkdir pair && echo ours >pair/a && ln pair/a pair/b
$i put - :/taken/a -p <<<'theirs'
for how in skip fail; do
  expect 1 $i import --on-conflict $how pair :/taken
  grep -q 'b: hard link to a' err || die "$how: what the link is was not said"
  expect 1 $i ls :/taken/b
done
expect 0 $i import pair :/whole
expect 0 $i rm :/whole/b
expect 0 $i import --on-conflict skip pair :/whole # goes on where it ended
same "$($i stat :/whole/a --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["nlink"])')" 2
mkdir beside && echo mine >beside/a
expect 1 $i export --on-conflict skip :/whole beside
[[ $(ls beside) == a && $(<beside/a) == mine ]] || die "a link to another file was made"
$i put - :/stays <<<'stays'
python3 - <<'P'
import tarfile; from tars import add
with tarfile.open('none.tar', 'w') as t:
    add(t, 'stays', b'', type=tarfile.LNKTYPE, linkname='nowhere')
with tarfile.open('none2.tar', 'w', format=tarfile.PAX_FORMAT) as t:
    add(t, 'stays', b'', type=tarfile.SYMTYPE, linkname='y' * 5000)
with tarfile.open('again.tar', 'w') as t:  # as tar -r leaves it
    add(t, 'a', b'old'); add(t, 'h', b'', type=tarfile.LNKTYPE, linkname='a'); add(t, 'a', b'new')
    add(t, 'l', b'', type=tarfile.LNKTYPE, linkname='a'); add(t, 'l', b'last')
    add(t, 's', b'file'); add(t, 's', b'', type=tarfile.SYMTYPE, linkname='a')
with tarfile.open('long.tar', 'w', format=tarfile.PAX_FORMAT) as t:
    add(t, 'before'); add(t, 'n' * 300); add(t, 'd/' * 5000 + 'deep'); add(t, 'after')
with tarfile.open('deep.tar', 'w', format=tarfile.PAX_FORMAT) as t:
    add(t, 'a/' * 2000 + 'f')
P
expect 1 $i import --on-conflict replace none.tar :/
expect 1 $i import --on-conflict replace none2.tar :/
same "$($i cat :/stays)" stays
expect 0 $i import --on-conflict replace again.tar :/again
same "$($i cat :/again/a) $($i cat :/again/h) $($i cat :/again/l) $($i stat :/again/s | grep -c symlink)" "new old last 1"

# What cannot be is said, and the rest goes on.
expect 1 $i import long.tar :/long
same "$(grep -c 'File name too long' err)" 2
same "$($i cat :/long/before)$($i cat :/long/after)" xx
mkdir withsock && echo z >withsock/z
python3 -c "import socket; socket.socket(socket.AF_UNIX).bind('withsock/sock')"
expect 0 $i import withsock :/withsock
expect 1 $i export :/withsock withsock.tar
grep -q 'sock' err || die "the socket was not named"
same "$(tar -tf withsock.tar | tail -1)" z

# A tree that is deeper than any path is the end of no process.
at=:/bottomless
part=$(printf '/a%.0s' $(seq 2000))
for n in $(seq 8); do
  expect 0 $i import deep.tar "$at"
  at+=$part
done
for verb in "pack deep.pack" "cp -r :/bottomless :/copy" "export :/bottomless deep.out" "ls -R :/bottomless" "rm -r :/bottomless"; do
  expect 1 $i $verb
  grep -q 'File name too long' err || die "$verb: $(head -c 300 err)"
done

# An attribute of a file that may not be written to.
if [[ $xattrs == yes ]]; then
  echo r >readonly && setfattr -n user.colour -v red readonly && chmod 444 readonly
  expect 0 $i put readonly :/readonly
  expect 0 $i get :/readonly readonly2
  same "$(stat -c %a readonly2) $(getfattr --only-values -n user.colour readonly2)" "444 red"
fi

# Nothing unreadable stops the rest.
if [[ $EUID != 0 ]]; then
  chmod 000 src/deep/9
  expect 1 $i import src :/rest
  says "deep/9: Permission denied"
  $i cat :/rest/deep/10 | cmp - src/deep/10
  chmod 644 src/deep/9
fi
