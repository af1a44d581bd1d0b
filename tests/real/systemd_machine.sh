#!/bin/bash
# Boot systemd in namespaces of its own, with a package installed over this machine's root, and run a script there.
#
#   systemd_machine.sh PACKAGE WORK      WORK/report is run once the service is up; what it prints is in WORK/out
#
# For `unshare --mount --pid --fork --uts --ipc --net --cgroup`, in a control group of its own. Everything written goes to
# a tmpfs and is gone with the namespaces. An engine behind the kernel's interface stands where the kernel's own lists
# would be, so that the service finds them with the configuration it is installed with.
set -e
package=$1 work=$2
mount --make-rprivate /
mount -t tmpfs machine "$work/machine"
mkdir "$work"/machine/{upper,changes,root}
root=$work/machine/root
mount -t overlay -o "lowerdir=/,upperdir=$work/machine/upper,workdir=$work/machine/changes" machine "$root"

mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs security "$root/sys/kernel/security"
mkdir -p "$root/sys/kernel/security/integrity/ima"
ln -s integrity/ima "$root/sys/kernel/security/ima"
mount -t tmpfs -o mode=755 dev "$root/dev"
for node in null zero full random urandom tty fuse; do
  touch "$root/dev/$node"
  mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
mount -t tmpfs shm "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=755 run "$root/run"
mount -t tmpfs -o mode=755 srv "$root/srv"
mount --bind "$work/out" "$root/mnt"
touch "$root/dev/console"
mount --bind "$work/out/console" "$root/dev/console"

rm -rf "$root"/etc/systemd/system/* "$root"/etc/imarium "$root"/var/lib/imarium # of the machine it runs on
dpkg -x "$package" "$root"
cp "$work/report" "$root/srv/report"
for number in 1 2 3; do echo "$number" >"$root/srv/file-$number"; done
units=$root/etc/systemd/system
cat >"$units/engine.service" <<'UNIT'
[Service]
ExecStart=/usr/bin/imarium engine --mount /sys/kernel/security/integrity/ima --rot none
ExecStartPost=/bin/sh -c 'until test -e /sys/kernel/security/ima/violations; do sleep 0.1; done'
UNIT
cat >"$units/report.service" <<'UNIT'
[Unit]
After=imarium.service
[Service]
Type=oneshot
ExecStart=/bin/sh /srv/report
StandardOutput=file:/mnt/report
StandardError=file:/mnt/report
ExecStopPost=/bin/systemctl poweroff --force
UNIT
cat >"$units/test.target" <<'UNIT'
[Unit]
Requires=basic.target
After=basic.target
Wants=engine.service imarium.service report.service
UNIT
mkdir "$units/imarium.service.d"
cat >"$units/imarium.service.d/test.conf" <<'UNIT'
[Unit]
After=engine.service
[Service]
Environment='IMARIUM_CONFIG_API__LISTEN=["unix:/run/imarium/api.sock"]' IMARIUM_CONFIG_API__GROUP=imarium
UNIT

cd "$root"
mkdir old
pivot_root . old
umount -l /old
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=test.target \
  --log-target=console systemd.unified_cgroup_hierarchy=1
