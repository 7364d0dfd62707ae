"""What several runs say together, and pages to read in a browser."""
