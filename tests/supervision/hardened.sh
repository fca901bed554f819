# As in a pod with a read-only root: `sh hardened.sh DIRECTORY COMMAND [ARGUMENT...]`, in mounts of its own.
# Nothing can be written to but DIRECTORY; the user is a number without a name, home or privileges. It may read
# everything, as the programs may be in the home directory of the user who runs the tests.
set -e
directory=$1
shift
mount --make-rprivate /
mount --bind / /
mount -o remount,ro,bind /
for point in $(awk '{print $5}' /proc/self/mountinfo | grep -vE '^/(proc|sys|dev)?(/|$)' | sort -u); do
  mount -o remount,ro,bind "$point"
done
mount -t tmpfs -o ro tmpfs /dev/shm
mount --bind "$directory" "$directory"
mount -o remount,rw,bind "$directory"
cd /
exec setpriv --reuid 10001 --regid 10001 --clear-groups --inh-caps +dac_read_search \
  --ambient-caps +dac_read_search "$@"
