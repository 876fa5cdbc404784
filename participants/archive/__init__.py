"""Old parts of the journal, taken out into files that prove what they were, and put back."""
