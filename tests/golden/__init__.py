"""Cases as a user writes them, and every file that comes of each."""
