#!/usr/bin/env bash
# Starts a small Ceph with an object store on this machine: one monitor, one manager, one OSD in memory and one RADOS
# Gateway, all on loopback. All state is in FOLDER, which stop.sh needs.
#     start.sh FOLDER GATEWAY_PORT MONITOR_PORT ACCESS_KEY SECRET_KEY
# `start.sh FOLDER` alone starts a gateway that has stopped.
set -euo pipefail
folder=$(realpath -m "$1")
export CEPH_CONF="$folder/ceph.conf"
log="$folder/log/setup"

start_gateway() {
    radosgw --name client.rgw --conf "$CEPH_CONF" >>"$log" 2>&1
    url=$(sed -n 's/^rgw_frontends = beast endpoint=/http:\/\//p' "$CEPH_CONF")
    for _ in $(seq 600); do
        curl --silent --fail --output /dev/null "$url/" && return
        sleep 0.1
    done
    echo "the gateway does not answer at $url; see $folder/log" >&2
    exit 1
}

if [ $# = 1 ]; then
    start_gateway
    exit
fi

gateway_port=$2 monitor_port=$3 access_key=$4 secret_key=$5
mkdir -p "$folder"/{mon,mgr,osd,rgw,log,run}
fsid=$(uuidgen)
cat >"$CEPH_CONF" <<CONF
[global]
fsid = $fsid
mon_host = v2:127.0.0.1:$monitor_port
mon_initial_members = a
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
auth_allow_insecure_global_id_reclaim = false
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
mon_max_pg_per_osd = 1000
ms_bind_ipv4 = true
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
run_dir = $folder/run
admin_socket = $folder/run/\$name.asok
pid_file = $folder/run/\$name.pid
log_file = $folder/log/\$name.log
[mon.a]
mon_data = $folder/mon
[mgr]
mgr_data = $folder/mgr
mgr_initial_modules =
[osd]
osd_data = $folder/osd
osd_objectstore = memstore
memstore_device_bytes = 4294967296
[client.rgw]
rgw_data = $folder/rgw
# There are no keys; the default of the gateway, "secure", cannot connect to the monitor without them.
ms_mon_client_mode = crc
rgw_frontends = beast endpoint=127.0.0.1:$gateway_port
rgw_thread_pool_size = 32
CONF
monmaptool --create --clobber --fsid "$fsid" --addv a "[v2:127.0.0.1:$monitor_port]" "$folder/monmap" >>"$log"
ceph-mon --id a --mkfs --monmap "$folder/monmap" --conf "$CEPH_CONF" >>"$log" 2>&1
ceph-mon --id a --conf "$CEPH_CONF" >>"$log" 2>&1
osd=$(uuidgen)
timeout 60 ceph osd new "$osd" >>"$log" 2>&1
ceph-mgr --id x --conf "$CEPH_CONF" >>"$log" 2>&1
ceph-osd --id 0 --mkfs --osd-uuid "$osd" --conf "$CEPH_CONF" >>"$log" 2>&1
ceph-osd --id 0 --conf "$CEPH_CONF" >>"$log" 2>&1
timeout 60 ceph osd crush add osd.0 1.0 root=default host=here >>"$log" 2>&1
start_gateway
timeout 60 radosgw-admin --conf "$CEPH_CONF" user create --uid=test --display-name=test \
    --access-key="$access_key" --secret-key="$secret_key" >>"$log" 2>&1
