"""What makes a cycle trustworthy: signed evidence, screening, checks, exports. No web framework, no database."""
