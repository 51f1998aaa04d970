"""What a word of the harness means, out of the data that give it its meaning: `harness explain`."""
