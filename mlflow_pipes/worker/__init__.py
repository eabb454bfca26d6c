"""What runs on a compute target: find the function, load its arguments, call it, store its output."""
