"""Pictures to train and test on: sets in memory, the embedded Glyphs suites, noise."""
