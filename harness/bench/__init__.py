"""How long things take here: measured in turn, told as medians and ratios, never judged by a test."""
