# shellcheck shell=sh
# Lays out files of the repository for the image. In a Dockerfile its lines become one: each ends in
# ; or in a word of the shell's grammar, and there is no comment.
#   $1 $2  a source and its target, as often as wanted: a folder's contents go into the target, a
#          file becomes it
# What lies in Git LFS is a pointer here: it must not be taken for the file.

while [ $# -gt 0 ]; do
if [ -d "$1" ]; then mkdir -p "$2"; cp -RLp "$1/." "$2/";
else mkdir -p "$(dirname "$2")"; cp -Lp "$1" "$2"; fi;
pointer="$(find "$2" -type f -size -1025c -exec grep -l '^version https://git-lfs.github.com/spec/v1' {} + | head -n 1)";
if [ -n "$pointer" ]; then echo "$pointer lies in Git LFS" >&2; exit 1; fi;
shift 2;
done
