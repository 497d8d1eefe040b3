# Names that run.sh and stop.sh share.
data=/var/lib/apus-demo
exec_root=/run/apus-demo
pid_file=/run/apus-demo.pid
log=/var/log/apus-demo.log
registry_port=5480
registry_data=/var/cache/apus-images/demo-registry

# A number may have been given to another program since.
running() { [ -s "$pid_file" ] && grep -qa apusd "/proc/$(cat "$pid_file")/cmdline" 2>/dev/null && kill -0 "$(cat "$pid_file")" 2>/dev/null; }
