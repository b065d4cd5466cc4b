"""Training pictures varied in bulk: what Albumentations would do to them, without its cost for each.

A policy whose transforms are all known here becomes a `plan.Plan`. What happens to many pictures is drawn at once, from
counted randomness; then either OpenCV does it, picture by picture and straight into a batch (`host`), or torch does it
to all of them at once, where the pictures lie (`device`). Both do the arithmetic of Albumentations 2.0.8: the same
pixels on the host, and within one grey level of them on a device.
"""
