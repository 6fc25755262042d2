"""How the facts of a check-up are had, on the node itself: from its kernel, files, ports, server."""
