"""Learners that keep a distribution: over what they may have learned, or over what examples look like."""
