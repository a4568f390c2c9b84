"""What a model is made of and what happens inside it for one image."""
