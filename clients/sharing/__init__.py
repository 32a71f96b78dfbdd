"""From a client's predictions to what leaves it."""
