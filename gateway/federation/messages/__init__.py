"""What members, operators and the agent say to each other over HTTP: a file for each noun."""
