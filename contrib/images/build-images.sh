#!/bin/sh
# Builds the images of tests and demonstrations from Debian's own packages: busybox.tar, nginx.tar, redis.tar and mywebapp.tar, archives that
# `docker load`, `apus image load` and push.py read. What is there and up to date is left alone.
#
#   build-images.sh [DIRECTORY]     default: $APUS_IMAGE_CACHE, else /var/cache/apus-images
#
# Needs root, and the packages mmdebstrap, busybox-static and python3.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${1:-${APUS_IMAGE_CACHE:-/var/cache/apus-images}}
suite=${APUS_IMAGE_SUITE:-bookworm}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)

# One build at a time: tests and benchmarks may ask together.
exec 9>"$cache/.lock"
flock 9

stamp=$(cat "$here/build-images.sh" "$here/archive.py" | sha256sum | cut -d' ' -f1)-$suite
if [ -s "$cache/mywebapp.tar" ] && [ "$(cat "$cache/.stamp" 2>/dev/null)" = "$stamp" ]; then
    exit 0
fi
for program in mmdebstrap busybox python3; do
    command -v "$program" >/dev/null || { echo "build-images.sh: $program is missing: apt-get install mmdebstrap busybox-static python3" >&2; exit 1; }
done

work=$(mktemp -d "$cache/.build-XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM

# A base that both images share: busybox and the few files that programs expect.
base=$work/base
mkdir -p "$base/bin" "$base/dev" "$base/etc" "$base/proc" "$base/root" "$base/run" "$base/sbin" "$base/sys" "$base/tmp" \
    "$base/usr/bin" "$base/usr/sbin" "$base/var/log" "$base/var/tmp"
chmod 1777 "$base/tmp" "$base/var/tmp"
chmod 700 "$base/root"
ln -s ../run "$base/var/run"
cp "$(command -v busybox)" "$base/bin/busybox"
"$base/bin/busybox" --list-full | while read -r applet; do
    case $applet in
    bin/busybox) ;;
    */*) [ -e "$base/$applet" ] || { mkdir -p "$base/$(dirname "$applet")"; ln -s /bin/busybox "$base/$applet"; } ;;
    esac
done
cat >"$base/etc/passwd" <<'END'
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/:/bin/false
END
cat >"$base/etc/group" <<'END'
root:x:0:
daemon:x:1:
adm:x:4:
www-data:x:33:
nogroup:x:65534:
END
echo 'hosts: files dns' >"$base/etc/nsswitch.conf"

mmdebstrap --quiet --variant=extract --format=directory --include=nginx,nginx-common,redis-server "$suite" "$work/debian"
# The shared objects that a program needs, and nothing else: libraries PROGRAM FOLDER
libraries() {
    chroot "$work/debian" /lib64/ld-linux-x86-64.so.2 --list "$1" |
        sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) (.*/\1/p' | sort -u >"$work/objects"
    while read -r object; do
        mkdir -p "$2$(dirname "$object")"
        cp -L "$work/debian$object" "$2$object"
    done <"$work/objects"
}

# nginx
libraries=$work/libraries
server=$work/nginx
mkdir -p "$libraries" "$server"
libraries /usr/sbin/nginx "$libraries"
mkdir -p "$server/usr/sbin" "$server/etc/nginx" "$server/var/lib/nginx" "$server/var/log/nginx" "$server/usr/share/nginx/modules"
cp "$work/debian/usr/sbin/nginx" "$server/usr/sbin/nginx"
cp "$work/debian/etc/nginx/mime.types" "$server/etc/nginx/mime.types"
ln -s /dev/stdout "$server/var/log/nginx/access.log"
ln -s /dev/stderr "$server/var/log/nginx/error.log"
cat >"$server/etc/nginx/nginx.conf" <<'END'
user www-data;
worker_processes 1;
error_log /var/log/nginx/error.log notice;
pid /run/nginx.pid;

events {
    worker_connections 1024;
}

http {
    include /etc/nginx/mime.types;
    default_type text/plain;
    access_log /var/log/nginx/access.log;

    server {
        listen 80;

        # Which container answered.
        location / {
            return 200 "$hostname\n";
        }
    }
}
END

# redis
redis=$work/redis
mkdir -p "$redis/usr/bin" "$redis/data"
libraries /usr/bin/redis-server "$redis"
libraries /usr/bin/redis-cli "$redis"
cp -L "$work/debian/usr/bin/redis-server" "$work/debian/usr/bin/redis-cli" "$redis/usr/bin/"

# A page that counts its visits in redis, and says who answered and who asked.
webapp=$work/mywebapp
mkdir -p "$webapp/www/cgi-bin"
cat >"$webapp/www/cgi-bin/index.cgi" <<'END'
#!/bin/sh
visits=$(printf 'INCR visits\r\nQUIT\r\n' | nc -w 5 "${REDIS:-redis}" 6379 | head -n 1 | tr -d ':\r')
asker=${REMOTE_ADDR#[}
asker=${asker%]}
printf 'Content-Type: text/plain\r\n\r\n'
printf 'visit %s, answered by %s, asked by %s\n' "${visits:-unknown}" "$(hostname)" "${asker#::ffff:}"
END
chmod 755 "$webapp/www/cgi-bin/index.cgi"

python3 "$here/archive.py" --output "$work/redis.tar" --reference redis:latest --layer "$base" --layer "$redis" --expose 6379/tcp \
    --command redis-server --command=--bind --command 0.0.0.0 '--command=-::*' --command=--protected-mode --command no --command=--save --command ''
python3 "$here/archive.py" --output "$work/mywebapp.tar" --reference mywebapp:latest --layer "$base" --layer "$webapp" --expose 80/tcp \
    --stop-signal SIGKILL --command httpd --command=-f --command=-p --command 80 --command=-h --command /www
python3 "$here/archive.py" --output "$work/busybox.tar" --reference busybox:latest --layer "$base" --command sh
python3 "$here/archive.py" --output "$work/nginx.tar" --reference nginx:latest --layer "$base" --layer "$libraries" --layer "$server" \
    --expose 80/tcp --stop-signal SIGQUIT --command nginx --command=-g --command 'daemon off;'
mv "$work/busybox.tar" "$work/nginx.tar" "$work/redis.tar" "$work/mywebapp.tar" "$cache/"
echo "$stamp" >"$cache/.stamp"
