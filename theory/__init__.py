"""Every claim of the paper's theory as code: statement, verdict, evidence. Loads no torch.

The paper is "Understanding Flatness in Generative Models: Its Role and Benefits". Notation, as there:
a score model s(x) = theta sigma(W^T x + U^T e) / m with theta, W of shape (d, m); b = U^T e of shape (m,); delta of
shape (d, m) a perturbation of theta; p the density of x, the standard normal unless said otherwise. A perturbation is
admissible when delta W^T is symmetric.
"""
