"""The audit export: what it holds, and how it is packed."""
