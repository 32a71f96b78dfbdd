"""Is fusing likely to help? What a short probe shows, and a small model of what came of it."""
