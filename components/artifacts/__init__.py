"""The nouns that cross a step's boundary; each is a directory and knows its files."""
