"""Turning, scaling and moving a picture so that places in it come to lie where they are wanted: the eyes of a face.

Source: Umeyama. Least-Squares Estimation of Transformation Parameters Between Two Point Patterns, 1991, equations 34
to 43.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

EYES = np.array([[38.2946, 51.6963], [73.5318, 51.5014]]) / 112
"""Where the eyes of an aligned face lie, the left one of the picture first, in shares of its side: those of Deng et al.
ArcFace, 2019, section 3.1, in the authors' code."""
ROUNDING = 1e-6


def similarity(places: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The similarity, a turn, one scale and a shift, that brings places nearest to those that are wanted.

    Args:
        places: x and y of n >= 2 places that are not all the same, float64 [n, 2].
        wanted: where they are to lie, float64 [n, 2].

    Returns:
        float64 [2, 3]: what a place (x, y, 1) is multiplied by. It is no mirror, and leaves the least sum of squares.
    """
    middle, target = places.mean(axis=0), wanted.mean(axis=0)
    spread = ((places - middle) ** 2).sum(axis=1).mean()
    covariance = (wanted - target).T @ (places - middle) / len(places)
    left, sizes, right = np.linalg.svd(covariance)
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    turn = left * signs @ right
    scaled = turn * (sizes @ signs) / spread
    return np.column_stack([scaled, target - scaled @ middle])


def moved(pixels: np.ndarray, matrix: np.ndarray, side: int) -> np.ndarray:
    """The square that a similarity makes of a picture; what comes from beyond the picture is black.

    Args:
        pixels: uint8 [H, W, C].
        matrix: from places of the picture to those of the square, float64 [2, 3].
        side: P.

    Returns:
        uint8 [P, P, C], interpolated between the centres of the pixels. A picture that is much larger is shrunk before,
        so that no pixel of it is passed over.
    """
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    factor = int(np.sqrt(abs(np.linalg.det(back[:, :2]))) + ROUNDING)
    if factor > 1:
        # Its last column and row may be less than a whole pixel; all others lie where they are divided by the factor.
        picture, back = picture.reduce(factor), back / factor
    square = picture.transform((side, side), Image.Transform.AFFINE, back.ravel().tolist(), Image.Resampling.BILINEAR)
    return np.asarray(square).reshape(side, side, pixels.shape[2])
