"""The Triton kernels, imported when the first of them is launched. Each file belongs to the operation of its name."""
