"""Who is speaking: access tokens and client assertions."""
