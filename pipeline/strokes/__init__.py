"""How boxes, pixels and points are drawn on a picture; what is drawn, and where, `pipeline.drawing` says."""
