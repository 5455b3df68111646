# shellcheck shell=sh
# Says so where Go's time zone database lacks a zone: a Go program takes UTC then, without a word. In
# a Dockerfile its lines become one: each ends in ; or in a word of the shell's grammar, and there is
# no comment.
#   $1  the zone
#   $2  the exit code where it is missing: 0 if the base image may have the zone's file

for database in "$(go env GOROOT)"/src/time/tzdata/*zipdata.go; do
if [ -f "$database" ] && ! grep -q -F -e "$1TZif" -e "$1PK" "$database"; then
echo "timeZone: $1 is not in the time zone database of $(go version)" >&2;
exit "$2";
fi;
done;
