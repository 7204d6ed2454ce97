#!/usr/bin/env bash
# What the kernel has cached, it forgets when that is no longer so.
. "$INDRA_SOURCE/tests/cli/common.sh"
[[ -r /dev/fuse && -w /dev/fuse ]] || exit 77
expect 0 $i init
mkdir m
if ((EUID)); then expect 0 $i mount --layout plain m; else expect 0 $i mount --layout plain --allow-other m; fi

# Set-user-id ends when somebody writes who may not keep it. The kernel leaves that to us, and remembers the old mode.
plain=()
((EUID)) || plain=(setpriv --bounding-set -fsetid --inh-caps -fsetid)
mode() {  # until the notice has reached the kernel
  has_mode() { [[ $(stat -c %a m/f) == "$1" ]]; }
  soon has_mode "$1" || die "the mode is $(stat -c %a m/f), not $1, after a write: $2"
}
for how in '' oflag=direct; do
  echo text >m/f
  chmod 6754 m/f
  same "$(stat -c %a m/f)" 6754
  "${plain[@]}" dd if=/dev/zero of=m/f bs=4096 count=1 conv=notrunc status=none $how
  mode 754 "$how"
  chmod 6644 m/f
  same "$(stat -c %a m/f)" 6644
  "${plain[@]}" dd if=/dev/zero of=m/f bs=4096 count=1 conv=notrunc status=none $how
  mode 2644 "$how"
done
if ((EUID == 0)); then  # a stranger's write ends both, whether or not the group may execute; so does all that changes bytes
  stranger=(setpriv --reuid=65534 --regid=65534 --clear-groups)
  for change in "dd if=/dev/zero of=m/f bs=100 count=1 conv=notrunc status=none" "fallocate -l 9000 m/f" "fallocate -n -l 99000 m/f" \
    "fallocate -p -l 4096 m/f" "fallocate -z -l 4096 m/f" "truncate -s 10 m/f"; do
    echo text >m/f
    chmod 6666 m/f
    same "$(stat -c %a m/f)" 6666
    "${stranger[@]}" $change
    mode 666 "$change"
  done
fi
expect 0 $i unmount m
