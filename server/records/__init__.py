"""What a round leaves behind, and what a run needs to go on."""
