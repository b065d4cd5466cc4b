"""Dataset and policy options -> the policy file: resolved transforms, mean and deviation, preview sheet."""
