"""Who is speaking, and who belongs to the scheme."""
