#!/usr/bin/env bash
# record.sh DIR: one line for each entry below DIR, all that an unmount and a mount must not change: type, mode, owner, size,
# times, links, target, attributes, contents. Fails where a file's hash in the vault is not the one that b3sum computes.
set -euo pipefail
cd "$1"
find . -mindepth 1 -printf '%P %y %m %U:%G %n %s %T@ %C@ -> %l\n' | LC_ALL=C sort
find . -type f -print0 | xargs -0r b3sum | LC_ALL=C sort -k 2 >"$OLDPWD/computed"
getfattr -R -P -h -d -m - . | LC_ALL=C sort
cat "$OLDPWD/computed"
# "# file: NAME" and "user.indra.hash="HASH"" in turns become lines as b3sum's
find . -type f -print0 | xargs -0r getfattr --absolute-names -n user.indra.hash |
  awk -F'"' '/^# file: /{name = substr($0, 9)} /^user.indra.hash=/{print $2 "  ./" substr(name, 3)}' |
  LC_ALL=C sort -k 2 >"$OLDPWD/told"
diff "$OLDPWD/computed" "$OLDPWD/told" >&2
