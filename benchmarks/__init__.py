"""Speed and memory, side by side in one run: ratios, medians of several, never asserted by tests."""
