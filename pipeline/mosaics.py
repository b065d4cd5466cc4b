"""Training pictures that are put together from four: a mosaic shows more objects, smaller, and in other surroundings.

Source: Bochkovskiy, Wang, Liao. YOLOv4: Optimal Speed and Accuracy of Object Detection, 2020, section 3.3.
"""
