"""What the detection networks share: options, what they see with, and the way from what they think to boxes."""
