"""Read images, videos and contours of source datasets."""
