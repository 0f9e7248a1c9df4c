"""Learners that hear a task as a sequence, or condition on it, and remember: nothing is fitted to the support."""
