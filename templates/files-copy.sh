# shellcheck shell=sh
# Lays out files of the repository for the image. In a Dockerfile its lines become one: each ends in
# ; or in a word of the shell's grammar, and there is no comment.
#   $1 $2  a source and its target, as often as wanted: a folder's contents go into the target, a
#          file becomes it

while [ $# -gt 0 ]; do
if [ -d "$1" ]; then mkdir -p "$2"; cp -RLp "$1/." "$2/";
else mkdir -p "$(dirname "$2")"; cp -Lp "$1" "$2"; fi;
shift 2;
done
