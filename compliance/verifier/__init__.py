"""The offline verifier of audit exports."""
