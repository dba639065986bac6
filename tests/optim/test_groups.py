from glassgpt.config import GPTConfig, OptimConfig
from glassgpt.model import GPTModel
from glassgpt.optim.adamw import AdamW
from glassgpt.optim.groups import make_optimizer
from glassgpt.optim.muon import Muon

SIZES = {"vocab_size": 11, "context_length": 8, "embedding_dim": 8, "n_heads": 2, "n_layers": 2}


def test_muon_has_the_matrices_of_the_blocks_and_adamw_the_rest() -> None:
    for architecture in ("gpt2", "modern"):
        for tie in (False, True):
            config = GPTConfig.from_dict(SIZES | {"architecture": architecture, "tie_embeddings": tie})
            model = GPTModel(config)
            hidden, rest = make_optimizer(model, OptimConfig(name="muon")).parts
            assert isinstance(hidden, Muon)
            assert isinstance(rest, AdamW)
            ids = {id(parameter) for parameter in hidden.parameters}
            for name, parameter in model.named_parameters():
                inside = "blocks" in name and parameter.dim() == 2
                assert (id(parameter) in ids) == inside, name
            every = [id(parameter) for parameter in [*hidden.parameters, *rest.parameters]]
            assert sorted(every) == sorted(map(id, model.parameters())), "each once"


def test_adamw_has_everything_that_is_not_frozen() -> None:
    model = GPTModel(GPTConfig.from_dict(SIZES))
    model.token_embedding.weight.requires_grad_(False)
    (only,) = make_optimizer(model, OptimConfig()).parts
    assert isinstance(only, AdamW)
    assert set(map(id, only.parameters)) == {id(p) for p in model.parameters() if p.requires_grad}
