"""Attribution methods: what a model looked at in an image, for a class, at a layer."""
