"""Deal the private samples out to the clients: one partitioner a file."""
