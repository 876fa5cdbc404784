"""The HTTP base of every node and the client that calls one."""
