"""Instruments of flatness for any torch model: find flat minima, and measure how flat a minimum is.

`flatness.sam`, `flatness.weight_averaging` and `flatness.input_perturbation` train; `low_pass_filter`,
`perturbation_curve`, `loss_surface`, `curvature`, `quantization`, `exposure_bias` and `readout` measure.
"""

__version__ = "0.1.0"
