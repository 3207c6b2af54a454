"""Drawing for the Ming toolkit: image generation, editing, segmentation."""
