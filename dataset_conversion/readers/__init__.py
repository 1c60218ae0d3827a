"""Read images, videos and contours of the source datasets, and write images."""
