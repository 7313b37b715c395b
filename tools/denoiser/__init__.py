"""Training of the embedded latent diffusion model of `train vlsa`."""
