"""Learners that are told what a class is, not shown."""
