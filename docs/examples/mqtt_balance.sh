#!/bin/sh
# Asks headquarters for a balance with mosquitto_pub and mosquitto_sub: mqtt_balance.sh REGISTER CARD
#
# TILLWIRE_RELAY_CREDENTIAL holds the relay's credential. Where the broker is, and who we are there, stands in the files
# mosquitto_pub and mosquitto_sub in $XDG_CONFIG_HOME (or ~/.config), one option a line: passwords belong in no argument.
set -eu
here=$(dirname "$0")
SESSION=$(mktemp)
export SESSION
trap 'rm -f "$SESSION"' EXIT
register() { "${PYTHON:-python3}" "$here/mqtt_register.py" "$@"; }

topic=$(register topic)
# The broker keeps what comes between two calls for this id: from the first one, which only subscribes, for a minute.
listen() { mosquitto_sub -V 5 -x 60 -q 1 -i "balance-$$" -c -t "$topic/answer" "$@"; }
publish() { mosquitto_pub -q 1 -s -t "$1"; }

listen -E
register hello | publish "$topic/hello"
listen -C 1 -W 10 -N -F %p | register welcome
to=$(register to)
register balance "$1" "$2" | publish "$to"
for publication in 1 2 3; do
    listen -C 1 -W 10 -N -F %p | register open && exit 0
done
echo "no reply" >&2
exit 1
