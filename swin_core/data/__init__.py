"""Data sets: CIFAR-100, flower_photos, folders of class folders, downloads."""
