#!/usr/bin/env bash
# What people work with: editors, copiers, git, SQLite, tail. Then all of it is still there after a remount.
. "$INDRA_SOURCE/tests/cli/common.sh"
[[ -r /dev/fuse && -w /dev/fuse ]] || exit 77
export HOME=$PWD EMAIL=who@example.org GIT_CONFIG_NOSYSTEM=1
git config --global user.name who
git config --global init.defaultBranch main
expect 0 $i init
mkdir m
expect 0 $i mount --layout plain m
attr() { getfattr --only-values -n "user.indra.$1" "$2" 2>/dev/null; }

# Editors. However a file is saved, the document is the same one (T7).
printf 'one\ntwo\n' >m/note
doc=$(attr doc_id m/note)
[[ ${#doc} == 64 ]] || die "no doc_id"
save() { vim -u NONE -Es -c 'set backupskip=' "$@" -c '%s/$/+/' -c wq m/note || true; }
for how in yes no auto; do
  save -c "set backupcopy=$how" -c 'set nobackup writebackup'
  save -c "set backupcopy=$how" -c 'set backup'
done
same "$(head -1 m/note)" "one++++++"
same "$(attr doc_id m/note)" "$doc"
[[ -e m/note~ ]] || die "no backup"
[[ $(attr doc_id m/note~) != "$doc" ]] || die "the backup is taken for the document"
sed -i s/one/uno/ m/note
same "$(attr doc_id m/note)" "$doc"
cp --remove-destination /etc/passwd m/note
same "$(attr doc_id m/note)" "$doc"
mv m/note m/renamed
same "$(attr doc_id m/renamed)" "$doc"

# What was closed is what every other way in shows.
for n in $(seq 200); do
  echo "number $n" >m/f
  [[ $($i cat m/f) == "number $n" ]] || die "cat shows an older content than number $n"
done

# Copiers
mkdir src && (
  cd src
  head -c 3000000 /dev/urandom >big && echo x >small && ln small hard && ln -s small link && mkfifo -m 600 pipe
  mkdir -p deep/er && echo y >"deep/er/a b" && : >deep/empty && truncate -s 9M deep/sparse && echo end >>deep/sparse
  chmod 640 small && setfattr -n user.color -v red big && touch -h -d '2001-02-03 04:05:06.789' link small big
)
rsync -aHX src/ m/rsync/
same "$(rsync -aHXi --checksum --dry-run --delete src/ m/rsync/)" ""
cp -a src m/cp
diff -r --no-dereference -x pipe src m/cp
[[ m/cp/small -ef m/cp/hard ]] || die "cp -a: hard link"
printf changed | dd of=src/big bs=1 seek=1000000 conv=notrunc status=none
rsync -a --inplace --no-whole-file src/big m/rsync/big
cmp src/big m/rsync/big
tar -C m -cf m/a.tar cp && mkdir m/tar && tar -C m/tar -xf m/a.tar
same "$(rsync -aHi --checksum --dry-run m/cp/ m/tar/cp/)" ""

# tail -f in one process sees what another appends.
: >m/log
timeout 150 tail -s 0.1 -n +1 -f m/log >tailed & tail=$!
for n in $(seq 50); do echo $n >>m/log; done
soon lines tailed 50 || die "tail has $(wc -l <tailed) lines"
kill $tail
seq 50 | cmp - tailed

# git: a history made in the mount, cloned in it, checked.
git init -q m/git && (
  cd m/git
  for n in $(seq 300); do mkdir -p d$((n % 17)) && echo "$n" >d$((n % 17))/f$n; done
  git add . && git commit -qm one && git checkout -q -b other
  rm -r d3 && echo more >>d4/f4 && git add -A && git commit -qm two
  for b in main other main; do
    git checkout -q $b
    same "$(git status --porcelain)" ""
  done
  git gc -q && git fsck --full 2>/dev/null
)
git clone -q m/git m/clone
git -C m/clone fsck --full 2>/dev/null
same "$(git -C m/clone status --porcelain)" ""

# SQLite: writers and readers at once, in both journal modes.
for mode in wal delete; do
  db=m/$mode.db
  echo "PRAGMA journal_mode=$mode; CREATE TABLE t(w, n);" | sqlite3 $db >/dev/null
  pids=()
  for w in 1 2 3; do
    for n in $(seq 30); do echo "INSERT INTO t VALUES($w, $n);"; done | sqlite3 -bail -cmd '.timeout 60000' $db & pids+=($!)
    for _ in $(seq 10); do echo "SELECT count(*) FROM t;"; done | sqlite3 -bail -cmd '.timeout 60000' $db >/dev/null & pids+=($!)
  done
  for p in "${pids[@]}"; do wait $p || die "sqlite, $mode"; done
  same "$(sqlite3 $db 'PRAGMA integrity_check; SELECT count(*), sum(n) FROM t')" $'ok\n90|1395'
done

"$INDRA_SOURCE/tests/mount/record.sh" m >before
expect 0 $i unmount m
expect 0 $i mount --layout plain m
"$INDRA_SOURCE/tests/mount/record.sh" m >after
diff before after || die "the remounted vault differs"
[[ $(wc -l <before) -gt 1000 ]] || die "hardly anything was compared"
rm -rf m/clone m/git
[[ ! -e m/git ]] || die "rm -r"
expect 0 $i unmount m
