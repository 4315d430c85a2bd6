"""What happened in a run: events, the file that holds them, and the tree that is read from them."""
