#!/usr/bin/env bash
# Vaults that earlier formats left behind, killed with work unfinished (make-sample): they open, and all is there.
. "$INDRA_SOURCE/tests/cli/common.sh"

seq 1 60000 >numbers
cp numbers numbers.before
for at in 0 5 17 40; do printf 'patched-%s' $at | dd of=numbers bs=4096 seek=$at conv=notrunc status=none; done
seq 1 9000 >inline.txt
truncate -s 3M sparse
printf middle | dd of=sparse bs=1 seek=1500000 conv=notrunc status=none
newest=$(ls "$INDRA_SOURCE"/tests/formats/v*.tar.xz | sed 's/.*v\([0-9]*\)\.tar\.xz/\1/' | sort -n | tail -n 1)
at=
trap '[[ -z $at ]] || $i unmount --force "$at" >/dev/null 2>&1 || true' EXIT

for sample in "$INDRA_SOURCE"/tests/formats/v*.tar.xz; do
  format=$(basename "$sample" .tar.xz)
  mkdir "$format"
  tar -C "$format" --no-same-owner -xJf "$sample"
  export INDRAFS_VAULT=$PWD/$format/vault

  # Whatever opens it migrates it; a check alone changes nothing and says what to do.
  if [[ $format != v"$newest" ]]; then
    before=$(cat "$INDRAFS_VAULT"/vault.db "$INDRAFS_VAULT"/vault.db-wal | b3sum)
    expect 1 $i fsck
    says "has format ${format#v}"
    same "$(cat "$INDRAFS_VAULT"/vault.db "$INDRAFS_VAULT"/vault.db-wal | b3sum)" "$before"
  fi
  "$INDRA_BIN/indra_formats_test" "$INDRAFS_VAULT" >log 2>&1 || { tail -n 30 log; die "$format: migration cut at some point"; }
  # The last format in which pages could be without checksum: a plain SQLite moved the WAL to the file (V3).
  if [[ $format == v5 ]] && command -v sqlite3 >/dev/null; then
    cp -a "$format" moved
    sqlite3 moved/vault/vault.db 'PRAGMA wal_checkpoint(TRUNCATE)' >/dev/null
    "$INDRA_BIN/indra_formats_test" "$PWD/moved/vault" >log 2>&1 || { tail -n 30 log; die "$format, moved: migration cut at some point"; }
    expect 0 $i --vault "$PWD/moved/vault" ls :/
    expect 0 $i --vault "$PWD/moved/vault" scrub --wait
    expect 0 $i --vault "$PWD/moved/vault" fsck
    rm -rf moved
  fi

  expect 0 $i cat :/numbers
  cmp out numbers || die "$format: a file with patches"
  expect 0 $i fsck
  expect 0 $i cat --snapshot before :/numbers
  cmp out numbers.before || die "$format: a file in a snapshot"

  mkdir "$format/m"
  at=$PWD/$format/m
  expect 0 $i mount --layout vault "$at"
  main=$at/vault
  cmp "$main/numbers" numbers
  same "$(cat "$main/notes/other-name" | b3sum)" "$(b3sum <numbers)"
  same "$(stat -c %h "$main/numbers")" 2
  cmp "$main/inline.txt" inline.txt
  cmp "$main/sparse" sparse
  same "$(cat "$main/notes/net.txt")" $'a net of jewels\nlater'
  same "$(cat "$main/notes/odd name	é")" odd
  same "$(getfattr --only-values -n user.colour "$main/notes/net.txt")" blue
  same "$(TZ=UTC stat -c %y "$main/notes/net.txt" | cut -c1-29)" "$(TZ=UTC date -d '2020-02-02 02:02:02.123456789 UTC' '+%F %T.%N')"
  same "$(readlink "$main/link")" notes/net.txt
  same "$(stat -c '%a %F' "$main/empty" "$main/inline.txt" "$main/pipe")" $'1777 directory\n640 regular file\n644 fifo'
  same "$(ls -A "$main" | tr '\n' ' ')" "deeper empty inline.txt link notes numbers pipe sparse "
  same "$(getfattr --only-values -n user.indra.hash "$main/numbers")" "$(b3sum --no-names numbers)"
  same "$(cat "$at/branches/fork/notes/net.txt")" forked
  [[ ! -e $at/branches/fork/inline.txt ]] || die "$format: a file that the fork removed"
  cmp "$at/branches/fork/numbers" numbers.before
  same "$(cat "$at/snapshots/before/notes/net.txt")" 'a net of jewels'
  [[ -f $at/snapshots/before/notes/nothing && -d $at/snapshots/before/notes/deep ]] || die "$format: the snapshot lacks names"

  # And it is worked on.
  echo more >>"$main/notes/net.txt"
  $i branch create after >/dev/null
  expect 0 $i unmount "$at"
  at=
  same "$($i cat after:/notes/net.txt | tail -n 1)" more
  expect 0 $i fsck
done
