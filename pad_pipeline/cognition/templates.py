"""The questions of cognition alignment: Tables 4 and 5 of VLSA's appendix, word for word.

Hyphens that ended a printed line are mended; nothing else is changed.
"""

from __future__ import annotations

HIGH_LEVEL = (
    "Provide the VQ indices that would represent the essential features of this image, "
    "capturing its key visual elements.",
    "Generate the VQ indices corresponding to the overall appearance and characteristics of "
    "this image.",
    "Imagine a hypothetical encoding process for this image. What would the resulting VQ "
    "indices look like, summarizing its content?",
    "Derive the VQ indices that capture the diversity and complexity of this image’s visual "
    "information.",
    "Formulate the VQ indices for this image, focusing on the patterns and structures that "
    "define its visual identity.",
    "Describe the VQ indices that effectively represent the visual essence of this image.",
    "In an abstract sense, what would the VQ indices of this image be, encapsulating its "
    "visual properties and characteristics?",
    "Assuming a VQ-based representation, what are the indices that would summarize the key "
    "aspects of this image?",
    "Create the VQ indices for this image, focusing on the fundamental elements that make it "
    "unique and recognizable.",
    "What are the VQ indices that would allow for the reconstruction or recognition of this "
    "image, based on its most salient features?",
    "Construct the VQ indices that would encapsulate the emotional tone and atmosphere "
    "conveyed by this image, beyond its literal visual content.",
    "Imagine the VQ indices as a codebook of visual elements, and devise the sequence that "
    "best represents the narrative or story within this image.",
    "Generate the VQ indices that capture the texture, color palette, and composition of this "
    "image, creating a digital fingerprint of its visual style.",
    "What are the VQ indices that summarize the most prominent shapes, lines, and forms found "
    "within this image, forming a visual abstract?",
    "Derive the VQ indices that would allow for efficient compression and reconstruction of "
    "this image, while preserving its key visual details.",
    "Formulate the VQ indices as a set of vectors that represent the hierarchical "
    "organization of visual information in this image, from general to specific.",
    "Create the VQ indices that reflect the balance of light and shadow, contrast, and "
    "saturation in this image, capturing its overall visual mood.",
    "Assuming a VQ-VAE model, what would the latent space representations (VQ indices) of "
    "this image look like, encoding its generative factors?",
    "Imagine the VQ indices as a set of instructions for a neural renderer to reconstruct "
    "this image, specifying its visual features at different levels of abstraction.",
    "Describe the VQ indices that would enable a machine learning model to recognize or "
    "classify this image based on its visual characteristics and patterns.",
)
"""Questions whose answer is VQ indices (Table 4)."""

LOW_LEVEL = (
    "For each pixel in this image, please provide the corresponding RGB value.",
    "I would like to know the exact RGB value of every pixel depicted in this image.",
    "Could you please list the RGB values for all pixels in this image?",
    "Please give me a detailed breakdown of the RGB values for each pixel in this image.",
    "I need the RGB value of each and every pixel in this image, can you help?",
    "Would it be possible to obtain the RGB values for all the pixels in this image?",
    "Please provide a comprehensive report on the RGB values of each pixel in this image.",
    "I’m looking for the RGB value of each pixel in this image, could you assist?",
    "Can you please specify the RGB value for every single pixel in this image?",
    "I require the RGB values of all pixels in this image, please provide them.",
    "Please tell me the RGB value of each pixel in this image, from top left to bottom right.",
    "I’m interested in the RGB values of each pixel, can you give me that information for "
    "this image?",
    "Could you please share the RGB values for each pixel in this image with me?",
    "I would appreciate it if you could tell me the RGB value of each pixel in this image.",
    "Please provide the RGB values for all pixels in this image, in a readable format.",
    "I’m seeking the RGB value of each pixel in this image, can you help me out?",
    "Would you be able to give me the RGB values for each pixel in this image?",
    "I need to know the RGB value of every pixel in this image, please provide the details.",
    "Please tell me the RGB value of each and every pixel that makes up this image.",
    "I’m looking to obtain the RGB values for all pixels in this image, can you assist me?",
)
"""Questions whose answer is RGB values (Table 5)."""

IMAGE_WORDS = "this image"
"""What every question names once, and what the words of a region stand in place of."""
