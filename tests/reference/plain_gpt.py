"""A GPT from its equations: numpy, float64, one position, one head and one layer after another.

It takes the numbers of a model and its config, nothing else; `without` names what is set to zero: ("head", layer,
head), ("attention", layer) or ("feed_forward", layer).
"""

import math

import numpy as np


class PlainGPT:
    """What flows through a model of the weights in `state` when it reads `ids`, in lists that `read` fills."""

    def __init__(self, config, state):
        self.config = config
        self.weights = {name: tensor.double().numpy() for name, tensor in state.items()}

    def read(self, ids, without=()):
        """The stream after the embedding, then after the attention and the feed-forward of each block."""
        config, length = self.config, len(ids)
        self.attention = np.zeros((config.n_layers, config.n_heads, length, length))
        self.added = []
        x = np.array([self.weights["token_embedding.weight"][token] for token in ids])
        if config.architecture == "gpt2":
            x = x + self.weights["position_embedding.weight"][:length]
        stream = [x]
        for layer in range(config.n_layers):
            for part, added_by in (("attention", self._attention), ("feed_forward", self._feed_forward)):
                normed = np.array([self._norm(f"blocks.{layer}.{part}_norm", row) for row in x])
                added = added_by(layer, normed, without)
                if (part, layer) in without:
                    added = np.zeros_like(added)
                self.added.append(added)
                x = x + added
                stream.append(x)
        return np.array(stream)

    def probabilities(self, x):
        """What the model says at each position if it ends with the stream x (T, C): (T, V)."""
        found = []
        for row in x:
            logits = self.weights["output_head.weight"] @ self._norm("final_norm", row)
            weights = np.exp(logits - logits.max())
            found.append(weights / weights.sum())
        return np.array(found)

    def mean_nats(self, ids, without=()):
        """-log of the probability of each next token, on average."""
        said = self.probabilities(self.read(ids, without)[-1])
        return float(np.mean([-math.log(said[t, ids[t + 1]]) for t in range(len(ids) - 1)]))

    def _linear(self, name, x):
        bias = self.weights.get(f"{name}.bias")
        return x @ self.weights[f"{name}.weight"].T + (0 if bias is None else bias)

    def _norm(self, name, row):
        eps = self.config.norm_eps
        scale = self.weights[f"{name}.scale"]
        if f"{name}.shift" in self.weights:
            centred = row - row.mean()
            return centred / math.sqrt((centred**2).mean() + eps) * scale + self.weights[f"{name}.shift"]
        return row / math.sqrt((row**2).mean() + eps) * scale

    def _turned(self, row, position):
        """Rotary positions: the pair of features i and i + D/2 turns by position * theta^(-2 i / D)."""
        half, turned = len(row) // 2, row.copy()
        for i in range(half):
            angle = position * self.config.rope_theta ** (-2 * i / len(row))
            turned[i] = row[i] * math.cos(angle) - row[i + half] * math.sin(angle)
            turned[i + half] = row[i + half] * math.cos(angle) + row[i] * math.sin(angle)
        return turned

    def _head(self, name, rows, number):
        """The rows (T, D) of one head of the queries or keys: its share of the projection, normed and turned."""
        config = self.config
        share = rows[:, number * config.head_dim : (number + 1) * config.head_dim]
        if config.qk_norm:
            share = np.array([self._norm(f"{name}_norm", row) for row in share])
        if config.architecture == "modern":
            share = np.array([self._turned(row, position) for position, row in enumerate(share)])
        return share

    def _attention(self, layer, x, without):
        config, name = self.config, f"blocks.{layer}.attention"
        queries, keys, values = (self._linear(f"{name}.{part}", x) for part in ("query", "key", "value"))
        gathered = []
        for head in range(config.n_heads):
            group = head // (config.n_heads // config.n_kv_heads)
            q, k = self._head(f"{name}.query", queries, head), self._head(f"{name}.key", keys, group)
            v = values[:, group * config.head_dim : (group + 1) * config.head_dim]
            context = np.zeros_like(q)
            for t in range(len(x)):
                scores = np.array([q[t] @ k[s] / math.sqrt(config.head_dim) for s in range(t + 1)])
                weights = np.exp(scores - scores.max())
                self.attention[layer, head, t, : t + 1] = weights / weights.sum()
                context[t] = self.attention[layer, head, t, : t + 1] @ v[: t + 1]
            gathered.append(context * (("head", layer, head) not in without))
        return self._linear(f"{name}.output_projection", np.concatenate(gathered, axis=1))

    def _feed_forward(self, layer, x, without):
        name = f"blocks.{layer}.feed_forward"
        inner = self._linear(f"{name}.up", x)
        if self.config.architecture == "modern":
            gate = self._linear(f"{name}.gate", x)
            inner = gate / (1 + np.exp(-gate)) * inner
        else:
            inner = 0.5 * inner * (1 + np.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
        return self._linear(f"{name}.down", inner)
