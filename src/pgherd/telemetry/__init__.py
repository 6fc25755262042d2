"""What a node tells about itself: events, logs, metrics, time and readiness.

Owns the journal of events, the form of log lines, the metrics registry, the clock that deciders
are given and the messages to the service manager. Leaves what is worth telling to the rooms that
know. Nothing here may make the loop wait: what cannot be written in time is dropped and counted.
Imports nothing here, so that the supervisor can take `sdnotify` and `boottime` alone.
"""
