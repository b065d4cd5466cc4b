"""What runs left: shown, listed, compared, and rebuilt as a proof."""
