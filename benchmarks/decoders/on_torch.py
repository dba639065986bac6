"""The peers on PyTorch: transformers, its dynamic int8, and LitGPT."""

import warnings
from pathlib import Path

import torch
from torch import nn


class Transformers:
    """Its own `generate`, fp32, SDPA attention, a cache that grows: its defaults."""

    def __init__(self, directory: Path, threads: int) -> None:
        from transformers import GPT2LMHeadModel

        torch.set_num_threads(threads)
        self._model = GPT2LMHeadModel.from_pretrained(directory, attn_implementation="sdpa").eval()
        self._model.generation_config.eos_token_id = None
        self._model.generation_config.pad_token_id = 0
        self.bytes_per_token = 4 * n_weights(self._model)

    def write(self, prompts: list[list[int]], n_new: int) -> list[list[int]]:
        ids = torch.tensor(prompts)
        with torch.inference_mode():
            output = self._model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=n_new, do_sample=False
            )
        return output[:, ids.shape[1] :].tolist()


class TorchInt8:
    """PyTorch's dynamic quantisation of the model of transformers, in a plain loop: faster than its own `generate`."""

    def __init__(self, directory: Path, threads: int) -> None:
        from transformers import GPT2LMHeadModel

        torch.set_num_threads(threads)
        model = GPT2LMHeadModel.from_pretrained(directory, attn_implementation="sdpa").eval()
        self.bytes_per_token = n_weights(model)
        with_linear_layers(model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that torchao will replace it
            self._model = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8, inplace=True)

    @torch.inference_mode()
    def write(self, prompts: list[list[int]], n_new: int) -> list[list[int]]:
        cache, ids = None, torch.tensor(prompts)
        written = []
        for _ in range(n_new):
            output = self._model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache, ids = output.past_key_values, output.logits[:, -1].argmax(-1, keepdim=True)
            written.append(ids)
        return torch.cat(written, dim=1).tolist()


class LitGPT:
    """It has no learned positions and does not open GPT-2: rotary ones, and weights of its own of the same shape."""

    def __init__(self, directory: Path, threads: int) -> None:
        import json

        from litgpt import GPT, Config

        torch.set_num_threads(threads)
        torch.manual_seed(0)
        shape = json.loads((directory / "config.json").read_text())
        config = Config(
            block_size=shape["n_positions"], vocab_size=shape["vocab_size"], padded_vocab_size=shape["vocab_size"],
            n_layer=shape["n_layer"], n_head=shape["n_head"], n_embd=shape["n_embd"], parallel_residual=False,
            bias=True, lm_head_bias=False, norm_class_name="LayerNorm", mlp_class_name="GptNeoxMLP",
            intermediate_size=4 * shape["n_embd"], gelu_approximate="tanh",
        )  # fmt: skip
        self._model = GPT(config).eval()
        self.bytes_per_token = 4 * (n_weights(self._model) - self._model.transformer.wte.weight.numel())
        self._n_slots = 0

    @torch.inference_mode()
    def write(self, prompts: list[list[int]], n_new: int) -> list[list[int]]:
        from litgpt.generate.base import batched_generate_fn, generate

        if self._n_slots != len(prompts):
            self._n_slots = len(prompts)
            self._model.set_kv_cache(batch_size=self._n_slots)
        ids = torch.tensor(prompts)
        length = ids.shape[1] + n_new
        if len(prompts) == 1:
            written = generate(self._model, ids[0], length, temperature=0.0, include_prompt=False)
            return [written.tolist()]
        greedy = {"temperature": 0.0, "top_k": None, "top_p": 1.0}
        steps = batched_generate_fn(
            self._model, ids, length, sample_args=greedy, include_prompt=False, include_eos=False
        )
        return [list(map(int, row)) for row in zip(*steps)]


def n_weights(model: nn.Module) -> int:
    """Weights that are read for a token: all but the table of positions."""
    return sum(p.numel() for name, p in model.named_parameters() if "wpe" not in name)


def with_linear_layers(module: nn.Module) -> None:
    """Replace the transposed matrices of transformers' GPT-2, which dynamic quantisation does not know."""
    for name, child in module.named_children():
        if type(child).__name__ == "Conv1D":
            linear = nn.Linear(*child.weight.shape)
            linear.weight.data, linear.bias.data = child.weight.data.T.contiguous(), child.bias.data
            setattr(module, name, linear)
        else:
            with_linear_layers(child)
