#!/bin/sh
# Ends the daemons that start.sh has started in a folder, by their process ids. Jobs are cancelled.
set -eu

folder=${1:?"usage: stop.sh FOLDER"}
export SLURM_CONF="$folder/slurm.conf" PATH="$PATH:/usr/sbin:/sbin"

timeout 20 scancel --user="$(id -un)" 2>/dev/null || true
for name in slurmd slurmctld munge; do
	file=$folder/$name.pid
	[ -s "$file" ] || continue
	pid=$(cat "$file")
	kill "$pid" 2>/dev/null || true
	for _ in $(seq 40); do
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.25
	done
	rm -f "$file"
done
