"""What is said of images and what is true, one file per kind of target."""
