"""The messages of a round: who is asked, how long to wait, and what comes back."""
