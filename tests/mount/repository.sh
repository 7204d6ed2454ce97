#!/usr/bin/env bash
# A repository as people have it: forked, built and tested in the fork while work goes on in main, `git status` sane in both,
# merged, dropped (docs/branches.md, G1..).
. "$INDRA_SOURCE/tests/cli/common.sh"
[[ -r /dev/fuse && -w /dev/fuse ]] || exit 77
for tool in git make cc; do command -v $tool >/dev/null || exit 77; done
export GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org
git config --global --add safe.directory '*'
expect 0 $i init
mkdir m
trap 'fusermount3 -uz "$PWD/m" 2>/dev/null || true' EXIT
expect 0 $i mount "$PWD/m"
repo=$PWD/m/vault/repo fork=$PWD/m/branches/agent/repo
git init -q -b main "$repo"
(
cd "$repo"
mkdir src
for n in $(seq 40); do printf 'int f%d(int x) {\n  return x + %d;\n}\n' "$n" "$n" >"src/f$n.c"; done
{
  echo '#include <stdio.h>'
  for n in $(seq 40); do echo "int f$n(int);"; done
  echo 'int main(void) {'
  echo '  int s = 0;'
  for n in $(seq 40); do echo "  s += f$n(0);"; done
  echo '  printf("%d\n", s);'
  echo '  return 0;'
  echo '}'
} >main.c
cat >Makefile <<'M'
OBJECTS := $(patsubst %.c,%.o,$(wildcard src/*.c)) main.o
prog: $(OBJECTS)
	$(CC) -o $@ $^
check: prog
	test "$$(./prog)" = "$(WANTED)"
.PHONY: check
M
printf '*.o\nprog\n' >.gitignore
git add -A && git commit -qm first
)
clean() { same "$(git -C "$1" status --porcelain)" "${2-}"; }
clean "$repo"

expect 0 $i branch create agent
clean "$fork"
# Work in the fork: built, tested, changed, built and tested again; and meanwhile in main.
make -s -C "$fork" check WANTED=820 -j2
clean "$fork"
sed -i 's/x + 7;/x + 107;/' "$fork/src/f7.c"
printf 'what it does\n' >"$fork/NOTES"
make -s -C "$fork" check WANTED=920
clean "$fork" " M src/f7.c
?? NOTES"
clean "$repo"
[[ ! -e $repo/prog && ! -e $repo/NOTES ]] || die "the fork shows through"
sed -i 's/x + 9;/x + 1009;/' "$repo/src/f9.c"
git -C "$repo" mv src/f40.c src/forty.c
git -C "$repo" commit -qam 'work in main'
git -C "$fork" fsck --strict >/dev/null 2>&1 || die "the fork's repository"

expect 0 $i merge agent
clean "$repo" " M src/f7.c
?? NOTES"
git -C "$repo" fsck --strict >/dev/null 2>&1 || die "the repository after the merge"
# What was built in the fork came along; what changed since is built anew.
make -s -C "$repo" check WANTED=1920
git -C "$repo" add -A && git -C "$repo" commit -qm 'what the agent did'
clean "$repo"
same "$(git -C "$repo" log --oneline | wc -l)" 3
expect 0 $i branch delete agent
clean "$repo"
expect 0 $i unmount "$PWD/m"
expect 0 $i fsck
