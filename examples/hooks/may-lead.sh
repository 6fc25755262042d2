#!/bin/sh
# A say before a promotion: hooks.pre_promote. Exit code 0: go on; any other: not this node.
# What it says last stands in the event promotion.vetoed, and in pgherd explain.
# It has to end soon: nobody can write meanwhile, and at its deadline the promotion goes on.
set -eu
flag=${FLAG:-/etc/pgherd/do-not-lead}
if [ -e "$flag" ]; then
    echo "$flag is there: $(head -c 200 "$flag")"
    exit 1
fi
