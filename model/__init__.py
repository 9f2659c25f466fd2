"""The science: images to patches to relation scores. Knows no HTTP and no environment variables."""
