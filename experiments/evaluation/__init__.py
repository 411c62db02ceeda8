"""How good samples are: the Frechet distance between their features and those of real images, with its error.

`frechet` has the distance and the streaming moments it needs, `error` its standard error and its bias, `features` what
a feature space is and the cache of reference statistics, `inception` the features that make the distance an FID,
`classifier` those of a small network that ships with the project (never called FID), and `corruptions` a table of what
the distance in the latter says about known faults of images.
"""
