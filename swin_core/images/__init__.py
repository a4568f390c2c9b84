"""From bytes to the input of a model: reading, arrays, resizing, cropping, normalising."""
