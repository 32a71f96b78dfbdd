"""What a client remembers between two messages, and where it waits."""
