"""The reference pages of the documentation, written by the code itself: they cannot differ from it."""
