#!/bin/sh
# A real Slurm on this machine alone: munged, slurmctld and slurmd from Debian's packages, in one folder.
#   start.sh FOLDER    installs what is missing, starts what does not run, ends when a node is idle;
#                      then `export SLURM_CONF=FOLDER/slurm.conf` is all that sbatch and squeue need
#   stop.sh FOLDER     ends what was started
# No systemd, no cgroups and no accounting database are needed, and a Slurm that is already here is left
# alone: keys, sockets and ports are the folder's own. As root, or as any user where it is installed.
set -eu

folder=${1:?"usage: start.sh FOLDER"}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
conf=$folder/slurm.conf
export SLURM_CONF="$conf" PATH="$PATH:/usr/sbin:/sbin"

missing=
for program in munged slurmctld slurmd sbatch; do
	command -v $program >/dev/null || missing="$missing $program"
done
if [ -n "$missing" ]; then
	[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || {
		echo "start.sh: not installed:$missing (on Debian: apt-get install slurmctld slurmd slurm-client munge)" >&2
		exit 3
	}
	{
		apt-get update
		DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
			slurmctld slurmd slurm-client munge
	} >"$folder/install.log" 2>&1 || {
		echo "start.sh: apt-get failed, see $folder/install.log" >&2
		exit 3
	}
fi

alive() { # FILE that holds a process id
	[ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null
}

free_port() {
	python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'
}

if [ ! -s "$conf" ]; then
	mkdir -p "$folder/state" "$folder/spool"
	host=$(hostname -s)
	user=$(id -un)
	# config_overrides: more CPUs than the machine may have. MinJobAge: how long squeue knows a job that ended.
	# cred_expire: a requeued job may begin that many seconds later, 120 if nothing is said.
	cat >"$conf.new" <<-END
		ClusterName=one
		SlurmctldHost=$host(127.0.0.1)
		SlurmctldPort=$(free_port)
		SlurmdPort=$(free_port)
		SlurmUser=$user
		SlurmdUser=$user
		AuthType=auth/munge
		AuthInfo=socket=$folder/munge.socket,cred_expire=5
		CredType=cred/munge
		StateSaveLocation=$folder/state
		SlurmdSpoolDir=$folder/spool
		SlurmctldPidFile=$folder/slurmctld.pid
		SlurmdPidFile=$folder/slurmd.pid
		SlurmctldLogFile=$folder/slurmctld.log
		SlurmdLogFile=$folder/slurmd.log
		SlurmdParameters=config_overrides
		ProctrackType=proctrack/linuxproc
		TaskPlugin=task/none
		JobAcctGatherType=jobacct_gather/none
		AccountingStorageType=accounting_storage/none
		JobCompType=jobcomp/none
		MpiDefault=none
		SwitchType=switch/none
		SelectType=select/cons_tres
		SelectTypeParameters=CR_CPU
		SchedulerParameters=bf_interval=2,sched_interval=2,batch_sched_delay=0
		ReturnToService=2
		MinJobAge=300
		KillWait=5
		NodeName=$host NodeAddr=127.0.0.1 CPUs=4 RealMemory=1000 State=UNKNOWN
		PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
	END
	# Read by slurmd even where nothing is to be confined.
	printf 'CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n' >"$folder/cgroup.conf"
	mv "$conf.new" "$conf"
fi

if ! alive "$folder/munge.pid"; then
	[ -s "$folder/munge.key" ] || (umask 077 && head -c 1024 /dev/urandom >"$folder/munge.key")
	chmod 755 "$folder" # the socket is reached through it
	munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
		--pid-file="$folder/munge.pid" --log-file="$folder/munge.log" --seed-file="$folder/munge.seed"
fi
alive "$folder/slurmctld.pid" || slurmctld -f "$conf"
alive "$folder/slurmd.pid" || slurmd -f "$conf"

for _ in $(seq 60); do
	state=$(sinfo --noheader --format=%T 2>"$folder/sinfo.log" || true)
	case $state in
	idle | mixed | allocated) exit 0 ;;
	esac
	sleep 0.5
done
echo "start.sh: the node is '$state' after 30 seconds; logs in $folder" >&2
tail -n 5 "$folder"/slurmctld.log "$folder"/slurmd.log "$folder"/sinfo.log >&2 || true
exit 1
