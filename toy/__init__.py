"""Small diffusion models on which the theory and the instruments meet: exact answers next to trained ones."""
