"""The tables of cycles. SQL only."""
