"""Lion (Chen et al. 2023): every weight takes a step of the same size, by the sign of its momentum alone.

    glassgpt train book.txt --run.code examples/optimizer.py
    glassgpt compare --with run.code=examples/optimizer.py --text book.txt --steps 500
"""

import torch


class Lion(torch.optim.Optimizer):
    def __init__(self, parameters, lr, weight_decay, beta1=0.9, beta2=0.99):
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "beta1": beta1, "beta2": beta2})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                momentum = state.setdefault("momentum", torch.zeros_like(weight))
                direction = momentum.lerp(weight.grad, 1 - group["beta1"]).sign_()
                weight.mul_(1 - group["lr"] * group["weight_decay"]).sub_(direction, alpha=group["lr"])
                momentum.lerp_(weight.grad, 1 - group["beta2"])


def make_optimizer(model, optim):
    """A tenth of AdamW's rate and ten times its decay, as the paper advises; norms and biases do not decay."""
    matrices = [weight for weight in model.parameters() if weight.dim() >= 2]
    others = [weight for weight in model.parameters() if weight.dim() < 2]
    groups = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    return Lion(groups, lr=optim.learning_rate / 10, weight_decay=10 * optim.weight_decay)
