#!/usr/bin/env bash
# docs/design/backup.md (P1..P5): pack and unpack; sparse files, links and attributes; damaged and hostile packs; kills.
. "$INDRA_SOURCE/tests/cli/common.sh"
trap '$i unmount --force "$PWD/m" >/dev/null 2>&1 || true' EXIT

expect 0 $i init
mkdir -p tree/dir/deep tree/empty m
head -c 3000000 /dev/urandom >tree/big
printf small >tree/small
: >tree/none
truncate -s 50M tree/sparse
printf end >>tree/sparse
ln tree/small tree/dir/again
ln -s ../small tree/dir/link
mkfifo tree/dir/pipe
printf odd >"$(printf 'tree/dir/new\nline\377')"
chmod 640 tree/small
chmod 700 tree/dir
touch -d '2020-01-02 03:04:05.123456789' tree/big tree/dir/deep tree/dir
expect 0 $i import "$PWD/tree" :/
expect 0 $i mount "$PWD/m"
setfattr -n user.colour -v blue m/vault/small 2>/dev/null || python3 -c 'import os; os.setxattr("m/vault/small", b"user.colour", b"blue")'
expect 0 $i pack "$PWD/main.pack"
same "$(stat -c %a main.pack)" 600
expect 0 $i snapshot create monday
printf changed >m/vault/small
expect 0 $i pack --snapshot monday "$PWD/monday.pack"
(($(stat -c %s main.pack) < 6000000)) || die "holes were packed"
expect 1 $i pack "$PWD/main.pack"
says "exists"
expect 1 $i pack nobody "$PWD/x.pack"
says "there is no branch nobody"
expect 2 $i pack a b c
[[ ! -e x.pack ]] || die "a pack that was not made is there"

# In the same vault, through the mount, and in another one.
expect 0 $i unpack "$PWD/monday.pack"
expect 0 $i unpack "$PWD/main.pack" --branch back
expect 1 $i unpack "$PWD/main.pack" --branch back
says "exists"
for b in monday back; do
  diff -r --no-dereference -x pipe tree "m/branches/$b" >&2 || die "$b differs"
  [[ -p m/branches/$b/dir/pipe ]] || die "no fifo"
  same "$(stat -c %i "m/branches/$b/small")" "$(stat -c %i "m/branches/$b/dir/again")"
  same "$(stat -c '%a %h' "m/branches/$b/small")" "640 2"
  same "$(stat -c %a "m/branches/$b/dir")" 700
  same "$(stat -c %y "m/branches/$b/big" "m/branches/$b/dir" "m/branches/$b/dir/deep" | sort -u | cut -c1-29)" "2020-01-02 03:04:05.123456789"
  same "$(python3 -c 'import os,sys; print(os.getxattr(sys.argv[1], b"user.colour").decode())' "m/branches/$b/small")" blue
  (($(stat -c %b "m/branches/$b/sparse") < 1000)) || die "not sparse any more"
done
expect 0 $i fsck
expect 1 $i merge back
expect 0 $i unmount "$PWD/m"
export INDRAFS_VAULT=$PWD/other
expect 0 $i init
$i --vault "$PWD/vault" pack --snapshot monday - | $i unpack - --branch piped >/dev/null || die "not through a pipe"
same "$($i cat piped:/small)" small
expect 0 $i branch delete piped

# Damaged anywhere: refused, and nothing of it is left.
size=$(stat -c %s monday.pack)
printf tiny >t
expect 0 $i branch create tiny
expect 0 $i put t tiny:/t
expect 0 $i pack tiny "$PWD/tiny.pack"
python3 - <<'P'
import os
whole = open("monday.pack", "rb").read()
tiny = open("tiny.pack", "rb").read()
def put(n, b): open("bad-%s.pack" % n, "wb").write(b)
for n, at in enumerate((3, 9, 40, 70, 200, len(whole) // 2, len(whole) - 40, len(whole) - 1)):
    b = bytearray(whole); b[at] ^= 1; put("bit%d" % n, bytes(b))
for n, at in enumerate((0, 5, 64, 66, 1000, len(whole) // 2, len(whole) - 32, len(whole) - 1)): put("cut%d" % n, whole[:at])
put("more", whole + b"x"); put("twice", whole + whole); put("none", b"\0" * 4096); put("joined", tiny[:-100] + whole[64:])
P
for f in bad-*.pack; do
  expect 1 $i unpack "$PWD/$f" --branch "${f%.pack}"
  says "$f"
done
expect 1 $i unpack "$PWD/nothing.pack"
expect 1 $i unpack "$PWD/tree"
# Well made, and hostile: names that lead out, a name through a link, twice the same directory and file.
if python3 -c 'import blake3' 2>/dev/null; then hash='import blake3; h=lambda b: blake3.blake3(b).digest()'
else hash='import subprocess; h=lambda b: bytes.fromhex(subprocess.run(["b3sum","--no-names"],input=b,stdout=subprocess.PIPE).stdout.decode().strip())'; fi
if python3 -c "$hash; h(b'')" 2>/dev/null; then
  python3 - <<P
import json, struct
$hash
def pack(name, items, end=None):
    head = b"IndraPck" + struct.pack("<I", 1) + b"\0" * 20
    seal = h(head); out = head + seal
    def put(kind, j, body=b""):
        nonlocal seal, out
        j = json.dumps(j).encode()
        m = struct.pack("<IBI", 5 + len(j) + len(body), kind, len(j)) + j + body
        seal = h(seal + m); out += m + seal
    put(1, {"format": 1, "branch": "main", "made": 1, "by": "x"})
    for i in items: put(2, i[0], i[1] if len(i) > 1 else b"")
    put(3, end or {"messages": len(items), "bytes": sum(len(i[1]) for i in items if len(i) > 1)})
    open("evil-%s.pack" % name, "wb").write(out)
top = ({"op": "dir", "path": "", "mode": 0o40755},)
pack("up", [top, ({"op": "file", "path": "../x", "size": 1}, b"x")])
pack("root", [top, ({"op": "file", "path": "/x", "size": 1}, b"x")])
pack("link", [top, ({"op": "symlink", "path": "l", "target": "/etc"},), ({"op": "file", "path": "l/x", "size": 1}, b"x")])
pack("hard", [top, ({"op": "link", "path": "l", "target": "../../etc/passwd"},)])
pack("nowhere", [top, ({"op": "link", "path": "l", "target": "nothing"},)])
pack("op", [top, ({"op": "evil", "path": "x"},)])
pack("huge", [top, ({"op": "file", "path": "x", "size": 1 << 62, "more": True, "id": 1},), ({"op": "done", "id": 1, "size": (1 << 62)},)])
pack("count", [top], {"messages": 7, "bytes": 0})
P
  for f in evil-*.pack; do
    expect 1 $i unpack "$PWD/$f" --branch "${f%.pack}"
    [[ -s err ]] || die "no word about $f"
  done
fi
same "$($i branch list | grep -c 'bad\|evil\|work')" 0
expect 0 $i fsck

# Killed in the midst of it: what is left goes with the next one.
mkfifo slow
$i unpack - --branch slow <slow >/dev/null 2>&1 &
unpack=$!
exec 8>slow
head -c 2000000 monday.pack >&8
for _ in $(seq 500); do
  ls other/segments/*.seg >/dev/null 2>&1 && break
  sleep 0.02
done
kill -9 $unpack
wait $unpack 2>/dev/null || true
exec 8>&-
expect 0 $i unpack "$PWD/tiny.pack" --branch after
same "$($i cat after:/t)" tiny
same "$($i branch list | grep -c 'slow\|work')" 0
expect 1 $i branch create indra-work-0123456789abcdef
expect 0 $i fsck

# A snapshot that is deleted while it is packed makes no pack: a part of it may be gone by then.
expect 0 $i mount "$PWD/m"
mkdir m/vault/big m/vault/zz
head -c 30000000 /dev/urandom >m/vault/big/file
echo here >m/vault/zz/file
expect 0 $i snapshot create going
rm m/vault/zz/file
mkfifo reader
$i pack --snapshot going - >reader 2>pack.err &
pack=$!
exec 8<reader
head -c 1000000 <&8 >part.pack
expect 0 $i snapshot delete going
expect 0 $i prune --older 0 --wait
cat <&8 >>part.pack
exec 8<&-
status=0
wait $pack || status=$?
same $status 1
grep -q 'given up meanwhile' pack.err || die "$(cat pack.err)"
expect 1 $i unpack "$PWD/part.pack" --branch parted
expect 0 $i unmount "$PWD/m"
