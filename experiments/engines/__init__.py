"""Where the two halves of the app run: in this process, on Ray, or as a deployment."""
