"""Results as pages for people: one HTML file each, with nothing to fetch and nothing to run."""
