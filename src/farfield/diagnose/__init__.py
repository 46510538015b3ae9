"""What is wrong with a classifier, by coded checks, and the least that can be done about it."""
