"""Cards in other people's words: one module for each format, each from a document to entries of a card."""
