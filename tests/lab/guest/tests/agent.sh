#!/bin/sh
# A resource agent, kept as two files in a directory. The tests give it one flaw at a time.
FLAW=none
here=${0%/*}
note=$here/note

flaw() { [ "$FLAW" = "$1" ]; }
fail() {
	echo "ocf-exit-reason:$2" >&2
	exit "$1"
}

# Exits as a monitor would.
state() {
	if [ -e "$place/a" ] && [ -e "$place/b" ]; then return 0; fi
	if [ ! -e "$place/a" ] && [ ! -e "$place/b" ]; then return 7; fi
	return 1
}

require() {
	flaw unchecked && place=${place:-$here}
	flaw unnamed && [ -z "$place" ] && fail 6 "bad configuration"
	[ -n "$place" ] || fail 6 "place is not an absolute path"
}

place=
case $OCF_RESKEY_place in
/*) place=$OCF_RESKEY_place ;;
esac

case $1 in
meta-data)
	cat <<-END
		<?xml version="1.0"?>
		<resource-agent name="two-files"><version>1.1</version>
		<parameters><parameter name="place" required="1"/></parameters>
		<actions><action name="start" timeout="20s"/><action name="stop" timeout="20s"/>
		<action name="monitor" timeout="20s"/></actions></resource-agent>
	END
	flaw environment && echo "<!-- $OCF_RESOURCE_INSTANCE -->"
	flaw malformed && echo "<"
	;;
validate-all)
	require
	;;
monitor)
	require
	flaw noisy && echo "looking" >&2
	flaw deep && [ "${OCF_CHECK_LEVEL:-0}" -ge 20 ] && fail 1 "too deep"
	flaw hang && [ "${OCF_CHECK_LEVEL:-0}" -ge 10 ] && sleep 1000
	if flaw lock; then
		mkdir "$here/lock" || fail 1 "locked"
		sleep 0.1
		rmdir "$here/lock"
	fi
	state || exit
	;;
start)
	require
	flaw second-start && state && fail 1 "it runs already"
	flaw stop-leftover && [ -e "$place/old" ] && fail 1 "something is left"
	echo "$place" >"$note.new"
	mv "$note.new" "$note"
	: >"$place/a"
	: >"$place/b"
	;;
stop)
	flaw lying-stop && exit 0
	flaw forgets && [ -z "$place" ] && exit 0
	if [ -z "$place" ] && [ -e "$note" ]; then read -r place <"$note"; fi
	[ -n "$place" ] || exit 0
	if flaw second-stop && [ ! -e "$place/a" ]; then fail 1 "it does not run"; fi
	if flaw half-stop && ! state; then exit 0; fi
	if flaw stop-leftover && [ -e "$place/a" ]; then
		mv "$place/a" "$place/old"
		rm -f "$place/old"
	fi
	flaw held && : >"$place/held"
	rm -f "$place/b" "$place/a"
	rm -f "$note"
	;;
*)
	flaw unknown || exit 3
	;;
esac
exit 0
