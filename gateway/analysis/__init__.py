"""Netting on the command line for analysts: files in, figures out, without a server."""
