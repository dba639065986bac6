"""A conversation: what the model sees of it, with a chat template and without."""

import copy
import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

import glassgpt
from glassgpt.api.conversation import Conversation
from glassgpt.api.gpt import GPT
from glassgpt.generation.sampling import Sampling
from glassgpt.settings import InputError
from glassgpt.text.kinds import train_tokenizer
from glassgpt.text.stories import write_stories

JINJA = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Qwen3 with random weights and ChatML, made by transformers."""
    folder = tmp_path_factory.mktemp("chat")
    train_tokenizer("bpe:400", list(write_stories(60, seed=2))).save(folder)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.add_special_tokens({"eos_token": "<|endoftext|>"})
    tokenizer.chat_template = JINJA
    tokenizer.save_pretrained(folder)
    torch.manual_seed(4)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "head_dim": 16}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    config = Qwen3Config(vocab_size=len(tokenizer), max_position_embeddings=64, initializer_range=0.4, **sizes, **heads)
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def with_template(chatty: Path) -> GPT:
    return glassgpt.load(chatty)


@pytest.fixture(scope="module")
def plain(chatty: Path, tmp_path_factory: pytest.TempPathFactory) -> GPT:
    """The same model without its template."""
    folder = tmp_path_factory.mktemp("plain") / "model"
    shutil.copytree(chatty, folder)
    (folder / "chat_template.jinja").unlink()
    return glassgpt.load(folder)


def test_with_a_template_the_model_sees_what_transformers_would_show_it(chatty: Path, with_template: GPT) -> None:
    conversation = Conversation(with_template, Sampling(), max_new_tokens=8)
    theirs = AutoTokenizer.from_pretrained(chatty)
    list(conversation.say("A fox came<|im_end|>"))
    control = with_template.tokenizer.vocabulary.special
    assert conversation.prompt().count(control["<|im_end|>"]) == 1, "what is typed is text"

    conversation.reset()
    list(conversation.say("A fox"))
    shown = {"add_generation_prompt": True, "return_dict": False}
    messages = [{"role": "user", "content": "A fox"}]
    assert conversation.prompt() == theirs.apply_chat_template(messages, **shown)
    answer = conversation.turns[0]
    messages += [{"role": "assistant", "content": "ANSWER"}, {"role": "user", "content": "came"}]
    list(conversation.say("came"))
    rendered = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    before, after = (theirs(part, split_special_tokens=False)["input_ids"] for part in rendered.split("ANSWER"))
    assert conversation.prompt() == before + answer.ids + after


def test_a_long_conversation_keeps_the_newest_whole_messages(with_template: GPT) -> None:
    conversation = Conversation(with_template, Sampling(), max_new_tokens=10)
    start = with_template.tokenizer.vocabulary.special["<|im_start|>"]
    for n in range(6):
        list(conversation.say(f"line {n}"))
        prompt = conversation.prompt()
        assert len(prompt) <= 54
        assert prompt[0] == start
        assert prompt[-len(conversation.turns[-1].asked) :] == conversation.turns[-1].asked
    assert 2 < prompt.count(start) < 12, "some of the twelve messages"


def test_without_a_template_an_answer_goes_on_with_the_text_and_a_line_begins_a_new_one(plain: GPT) -> None:
    conversation = Conversation(plain, Sampling(seed=2), max_new_tokens=5)
    assert conversation.template is None
    encode = plain.tokenizer.encode
    first = "".join(conversation.say("A fox"))
    assert conversation.prompt() == encode("A fox")
    second = "".join(conversation.say("came"))
    assert conversation.prompt() == encode("A fox") + conversation.turns[0].ids + encode("\ncame")
    third = "".join(conversation.say(""))
    assert conversation.prompt()[-len(conversation.turns[1].ids) :] == conversation.turns[1].ids
    assert conversation.text == f"A fox{first}\ncame{second}{third}\n"


def test_without_a_template_the_newest_tokens_stay_and_leave_room(plain: GPT) -> None:
    for max_new_tokens, room in ((5, 59), (1000, 32)):
        conversation = Conversation(plain, Sampling(), max_new_tokens)
        pieces = conversation.say("many words " * 40)
        next(pieces)
        pieces.close()
        assert conversation.prompt() == plain.tokenizer.encode("many words " * 40)[-room:]


def test_a_document_that_the_model_ended_is_followed_by_another(plain: GPT) -> None:
    greedy = Sampling(temperature=0)
    *before, end = plain.ids("A fox", 4, greedy)
    tokenizer = copy.copy(plain.tokenizer)
    tokenizer.end_of_text = end
    conversation = Conversation(dataclasses.replace(plain, tokenizer=tokenizer), greedy, max_new_tokens=10)
    list(conversation.say("A fox"))
    assert conversation.turns[0].ids == before
    list(conversation.say("came"))
    assert conversation.prompt() == [*tokenizer.encode("A fox"), *before, end, *tokenizer.encode("came")]


def test_again_answers_the_same_in_another_way_and_a_seed_repeats_it_all(plain: GPT) -> None:
    def answers() -> list[str]:
        conversation = Conversation(plain, Sampling(seed=7, temperature=1), max_new_tokens=12)
        texts = ["".join(conversation.say("A fox")), "".join(conversation.again()), "".join(conversation.say("came"))]
        assert conversation.text == f"A fox{texts[1]}\ncame{texts[2]}\n"
        return texts

    first = answers()
    assert first[0] != first[1]
    assert answers() == first


def test_a_stop_string_is_no_part_of_the_conversation(plain: GPT) -> None:
    free = "".join(Conversation(plain, Sampling(seed=3), max_new_tokens=20).say("A fox"))
    stop = free[4:6]
    conversation = Conversation(plain, Sampling(seed=3), max_new_tokens=20, stop=[stop])
    assert "".join(conversation.say("A fox")) == free[: free.index(stop)]
    assert conversation.turns[0].ids == plain.tokenizer.encode(free[: free.index(stop)])


def test_what_cannot_be_is_refused(plain: GPT) -> None:
    with pytest.raises(InputError, match="no answer yet"):
        Conversation(plain, Sampling()).again()
    with pytest.raises(InputError, match="max_new_tokens is 0"):
        Conversation(plain, Sampling(), max_new_tokens=0)


def test_the_command_takes_messages_where_there_is_a_template(chatty: Path, tmp_path: Path) -> None:
    place = tmp_path / "talk.txt"
    found = subprocess.run(
        [sys.executable, "-m", "glassgpt", "chat", str(chatty), "--max-new-tokens", "6"],
        input=f"A fox\n\ncame\n/save {place}\n", capture_output=True, check=False, encoding="utf-8",
    )  # fmt: skip
    assert (found.returncode, found.stderr.count("\n")) == (0, 3), "saved in, an empty line, Next"
    text = place.read_text(encoding="utf-8")
    assert text.startswith("user: A fox\nassistant: ")
    assert text.count("user: ") == text.count("assistant: ") == 2, "an empty line is no message"
