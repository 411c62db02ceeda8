"""The scale-up: ADM, its diffusion process, real images, training on one CPU to many GPUs, evaluation."""
