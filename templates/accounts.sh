# shellcheck shell=sh
# Writes the image's /etc/passwd and /etc/group: every user has a group of its name and number. In a
# Dockerfile its lines become one: each ends in ; or in a word of the shell's grammar, and there is
# no comment.
#   $1   the folder that becomes the image's /etc
#   $2…  the lines of /etc/passwd

etc="$1"; shift;
printf '%s\n' "$@" > "$etc/passwd";
while IFS=: read -r name _ number _; do
echo "$name:x:$number:";
done < "$etc/passwd" > "$etc/group";
