#!/bin/sh
# A callback: hooks.on_role_change. Arguments: on_role_change, the new role, the cluster's name.
# Has a DNS record follow the primary with nsupdate; write your cloud's call in its place.
# It may be killed when the role changes again, so each call must be right by itself.
set -eu
role=$2
cluster=$3
zone=${ZONE:-db.example}
[ "$role" = primary ] || exit 0
address=${ADDRESS:-$(hostname -i | cut -d' ' -f1)}
printf 'update delete %s.%s A\nupdate add %s.%s 10 A %s\nsend\n' \
    "$cluster" "$zone" "$cluster" "$zone" "$address" | ${NSUPDATE:-nsupdate}
echo "$cluster.$zone is $address in term $PGHERD_TERM"
