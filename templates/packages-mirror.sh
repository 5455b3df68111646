# shellcheck shell=sh
# Points the package lists of Alpine and Debian at a mirror; packages-install.sh follows it in the
# same RUN. In a Dockerfile its lines become one: each ends in ; or in a word of the shell's grammar,
# and there is no comment.
#   $1  a sed expression that changes the URLs of a list; it is shifted away
#   …   what packages-install.sh takes

mirror="$1"; shift;
for list in /etc/apk/repositories /etc/apt/sources.list /etc/apt/sources.list.d/*; do
if [ -f "$list" ]; then sed -i -E "$mirror" "$list"; fi;
done;
