"""The science: from images to patches to relation scores. It uses no HTTP and no environment variables."""
