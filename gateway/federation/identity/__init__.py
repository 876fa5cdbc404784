"""Who is speaking: access tokens and assertions."""
