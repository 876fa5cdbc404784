"""Who is a member, with which keys, accounts and limits; the trust list."""
