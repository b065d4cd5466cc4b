"""Source files of any format -> the dataset on disk, checked, split and digested."""
