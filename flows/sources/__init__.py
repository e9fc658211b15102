"""Where scenes come from: a module for each kind of source, and what they share."""
