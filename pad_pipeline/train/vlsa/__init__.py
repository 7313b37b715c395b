"""After VLSA: image tokens must let a denoising transformer reconstruct the image as well."""
