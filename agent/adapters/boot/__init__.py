"""The boot loader and its entries."""
