"""Clearing cycles: from opening over attestation, matching, netting and approval to settlement and finality.

`states`, `matching`, `submission` and `result` decide and are pure; `store` holds the SQL; `service` loads, decides,
stores and publishes; `driver` takes the steps that are due; `api` speaks HTTP.
"""
