"""The tiny world of the course: procedural sounds, their captions, and a tiny Audio Flamingo 3 that hears them."""
