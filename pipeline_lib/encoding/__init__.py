"""Stage "encoded": images and prompts as the base model sees them, once, so that training holds no encoder."""
