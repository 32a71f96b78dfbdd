"""What server and clients say to each other, as arrays, and how it is believed on arrival."""
