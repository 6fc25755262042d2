"""The command line: what people type, and what they read.

Owns commands, tables, exit codes and the making of a node's files. Speaks HTTP with any daemon's
API and leaves every decision to it. Data goes to standard output, talk to standard error, and every
error ends with the next command to run. Heavy libraries are imported only by the commands that need
them.
"""
