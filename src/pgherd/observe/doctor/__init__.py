"""How the facts of a check-up are had on the node itself: of its kernel, files, ports, server."""
