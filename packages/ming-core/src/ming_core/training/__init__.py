"""What training needs of the core: losses, packing and the balance of experts."""
