# shellcheck shell=sh
# Copies a zone's file of the builder stage for the image; -L because many zones are links. In a
# Dockerfile its lines become one: each ends in ; or in a word of the shell's grammar, and there is
# no comment.
#   $1  the zone
#   $2  the folder of the zones' files
#   $3  the folder that becomes the image's /

if [ ! -f "$2/$1" ]; then
echo "timeZone: $1 is not in the time zone database of the package tzdata" >&2;
exit 1;
fi;
mkdir -p "$(dirname "$3$2/$1")";
cp -L "$2/$1" "$3$2/$1";
