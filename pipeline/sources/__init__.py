"""What lies behind `pipeline.source`: folders and archives on disk, on S3, behind https, and in DVC's cache."""
