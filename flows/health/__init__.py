"""`convoy doctor`: whether every part is here, works and is safe."""
