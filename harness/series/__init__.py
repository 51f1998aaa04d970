"""A patch series from the mailing list: what it touches, which scenarios are about that, and what it changed."""
