#!/bin/sh
# As the official redis image's: flags go behind redis-server, root becomes the redis user.
set -e
case "${1:-}" in
-* | *.conf) set -- redis-server "$@" ;;
esac
if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
	find . ! -user redis -exec chown redis '{}' +
	exec setpriv --reuid redis --regid redis --clear-groups -- "$0" "$@"
fi
[ "$(umask)" != 0022 ] || umask 0077
if [ "$1" = redis-server ]; then
	# The official image is built without protected mode; Debian's Redis is not.
	shift
	case "${1:-}" in
	*.conf) config="$1" && shift && set -- "$config" --protected-mode no "$@" ;;
	*) set -- --protected-mode no "$@" ;;
	esac
	set -- redis-server "$@"
fi
exec "$@"
