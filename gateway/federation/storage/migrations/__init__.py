"""The one Alembic environment: every package brings its own revisions in `<package>/migrations/versions`."""
