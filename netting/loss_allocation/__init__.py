"""Who bears what a participant can't pay: the ways that `netting.default` puts side by side."""
