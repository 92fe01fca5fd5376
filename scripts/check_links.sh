#!/bin/sh
# Checks that every entry of src/perdure is a link to the part of the same name at the root.
# A clone without links (core.symlinks=false, a copy that follows them) holds files that look right
# and can never be imported as one set of modules; better to say so before anything is installed.
set -eu
cd "$(dirname "$0")/.."

fail() {
  echo "error: $1" >&2
  exit 1
}

count=0
for entry in src/perdure/* src/perdure/.[!.]*; do
  name=$(basename "$entry")
  case "$name" in '*' | '.[!.]*' | __pycache__) continue ;; esac
  [ -L "$entry" ] || fail "$entry is not a link. Mend it with:
  git config core.symlinks true && git checkout -- src/perdure"
  target=$(readlink "$entry")
  [ "$target" = "../../$name" ] || fail "$entry points to $target, not to ../../$name"
  [ -e "$entry" ] || fail "$entry points to $name, which does not exist at the root"
  count=$((count + 1))
done
[ "$count" -gt 0 ] || fail "src/perdure is empty: run git checkout -- src/perdure"

for init in */__init__.py; do
  part=$(dirname "$init")
  case "$part" in tests | bench | examples | scripts) continue ;; esac
  [ -L "src/perdure/$part" ] || fail "the part $part has no link. Make it with:
  ln -s ../../$part src/perdure/$part"
done
